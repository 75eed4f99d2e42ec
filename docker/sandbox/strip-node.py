"""Takes from Node's program what no processor loads: names and lines for debuggers, 18 MB."""

import struct
import sys

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")

with open(sys.argv[1], "r+b") as program:
    *head, flags, size, segment_size, count, _, _, _ = HEADER.unpack(program.read(HEADER.size))
    program.seek(head[5])
    segments = [SEGMENT.unpack(program.read(SEGMENT.size)) for _ in range(count)]
    # Sections are for linkers and debuggers; segments are what is loaded.
    head[6] = 0
    program.seek(0)
    program.write(HEADER.pack(*head, flags, size, segment_size, count, 0, 0, 0))
    program.truncate(max(segment[2] + segment[5] for segment in segments))
