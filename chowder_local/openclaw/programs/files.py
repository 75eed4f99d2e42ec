"""Reads and writes an agent's files from inside its sandbox, as the agent's own user.

Its text is sent with each call. In: one line of JSON {op, root, parts, limit}; for a write
{op, root}, then the content as chunks with their length before them, an empty one as the end
mark, and a line {parts, into}. Out: one line of JSON {size, …} and as many bytes of content, or
{error, words}. Input that ends before its time changes nothing.
"""

from __future__ import annotations

import _thread
import errno
import json
import os
import select
import stat
import struct
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE_BYTES = 256 * 1024
COPY_BYTES = 256 * 1024
SYNC_BYTES = 64 * 1024 * 1024
NAME_BYTES = 255
MAX_ENTRIES = 200_000
WALK_ATTEMPTS = 16
NEW_FILE_MODE, NEW_DIRECTORY_MODE = 0o644, 0o755
LENGTH = struct.Struct(">I")
# A folder to go through. A symbolic link is none, so no walk ever follows one.
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO would wait for its other end, and a terminal would become ours.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
IN_THE_WAY = {errno.ENOTDIR, errno.ELOOP}
SWAPPED = {errno.ELOOP, errno.ENXIO}


class Refusal(Exception):
    """Something cannot be done; `code` is for the server, the words are for a person."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Vanished(Exception):
    """The input ended before its time, so whoever asked is gone."""


class Temporary:
    """A new file that has no name, or a hidden one where there are no files without."""

    def __init__(self, descriptor: int, folder: int, name: str | None) -> None:
        self.descriptor = descriptor
        self._folder = folder
        self._name = name

    def place(self, folder: int, name: str) -> None:
        """Puts the file where another may be, which nobody ever sees half written or missing."""
        if self._name is not None:
            os.rename(self._name, name, src_dir_fd=self._folder, dst_dir_fd=folder)
            self._name = None
            return
        # A link cannot replace what is there, a rename can.
        hidden = hidden_name()
        unnamed = f"/proc/self/fd/{self.descriptor}"
        os.link(unnamed, hidden, dst_dir_fd=folder, follow_symlinks=True)
        try:
            os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(hidden, dir_fd=folder)
            raise

    def sweep(self) -> None:
        """Leaves no trace of it but where it was placed."""
        os.close(self.descriptor)
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)


def main(source: BinaryIO, sink: BinaryIO, watch: Callable[[], object] | None = None) -> None:
    """Does what one request says and answers; `watch` is called before a long answer."""
    os.umask(0o022)
    request = read_line(source)
    if watch is not None and request["op"] != "write":
        watch()
    try:
        # The root may not be a link either, because the agent could make it one.
        with folder_at("/", request["root"].strip("/").split("/")) as root:
            OPERATIONS[request["op"]](root, request, source, sink)
    except Refusal as refusal:
        answer(sink, error=refusal.code, words=str(refusal))
    except FileNotFoundError:
        answer(sink, error="missing", words="")
    except PermissionError:
        answer(sink, error="refused", words="The agent's own user has no permission for that.")
    except OSError as failure:
        code = "full" if failure.errno in NO_SPACE else "failed"
        answer(sink, error=code, words=failure.strerror or "unknown error")


def list_folder(root: int, request: dict[str, Any], _: BinaryIO, sink: BinaryIO) -> None:
    """Answers with a JSON array of [name, mode, size, mtime] for each entry of a folder."""
    parts = checked(request["parts"])
    rows: list[list[str | int]] = []
    with folder_at(root, parts) as folder:
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(opened) as entries:
                for entry in entries:
                    if len(rows) == MAX_ENTRIES:
                        raise Refusal("refused", f"{shown(parts)} has over {MAX_ENTRIES} entries.")
                    # It may be gone by now.
                    with suppress(FileNotFoundError):
                        rows.append(row_of(entry))
        finally:
            os.close(opened)
    rows.sort()
    content = json.dumps(rows).encode()
    answer(sink, size=len(content))
    sink.write(content)
    sink.flush()


def read_file(root: int, request: dict[str, Any], _: BinaryIO, sink: BinaryIO) -> None:
    """Answers with a file's bytes: as many as it had when it was opened."""
    parts, limit = checked(request["parts"]), request.get("limit")
    with folder_at(root, parts[:-1]) as folder:
        # Looked at before it is opened, too: to open a FIFO would wake the other end.
        name = parts[-1] if parts else "."
        must_be_file(os.stat(name, dir_fd=folder, follow_symlinks=False), parts)
        try:
            opened = os.open(name, READ, dir_fd=folder)
        except OSError as failure:
            if failure.errno not in SWAPPED:
                raise
            raise Refusal("refused", f"{shown(parts)} is not a regular file.") from None
    try:
        info = os.fstat(opened)
        must_be_file(info, parts)
        if limit is not None and info.st_size > limit:
            raise Refusal("too_large", shown(parts))
        answer(sink, size=info.st_size)
        send(opened, info.st_size, sink)
    finally:
        os.close(opened)


def write_file(root: int, _: dict[str, Any], source: BinaryIO, sink: BinaryIO) -> None:
    """Takes a file's content and then its place; nothing is changed before all is there."""
    with temporary(root) as file:
        receive(source, file.descriptor)
        target = read_line(source)
        place(root, file, checked(target["parts"]), target.get("into"))
    answer(sink, size=0)


OPERATIONS = {"list": list_folder, "read": read_file, "write": write_file}


def place(root: int, file: Temporary, parts: list[str], into: str | None) -> None:
    """Puts a file in its place; `into` is its name if the place turns out to be a folder.

    An end of "" says that the place is to be a folder.
    """
    if parts and parts[-1] == "":
        if into is None:
            raise Refusal("refused", f"{shown(parts)} is to be a directory.")
        parts, into = [*parts[:-1], *checked([into])], None
    with folder_at(root, parts[:-1], is_made=True) as folder:
        name = parts[-1] if parts else "."
        try:
            known = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            mode = NEW_FILE_MODE
        else:
            if stat.S_ISDIR(known.st_mode) and into is not None:
                place(root, file, [*parts, *checked([into])], None)
                return
            must_be_file(known, parts)
            mode = known.st_mode & 0o777
        os.fchmod(file.descriptor, mode)
        try:
            file.place(folder, name)
        except (IsADirectoryError, FileExistsError):
            raise Refusal("refused", f"{shown(parts)} is a directory.") from None


def receive(source: BinaryIO, descriptor: int) -> None:
    """Writes chunks until the end mark. After a failure it reads on, to be able to answer."""
    failure: OSError | None = None
    unsynced = 0
    while chunk := read_chunk(source):
        if failure is not None:
            continue
        try:
            write_all(descriptor, chunk)
            unsynced += len(chunk)
            # In steps, because a single one at the end might be taken for a standstill.
            if unsynced >= SYNC_BYTES:
                os.fdatasync(descriptor)
                unsynced = 0
        except OSError as raised:
            failure = raised
            os.ftruncate(descriptor, 0)
    if failure is None:
        try:
            os.fsync(descriptor)
        except OSError as raised:
            failure = raised
    if failure is not None:
        read_line(source)
        raise failure


def read_chunk(source: BinaryIO) -> bytes:
    """The next chunk; empty at the end mark. Raises Vanished."""
    header = source.read(LENGTH.size)
    if len(header) < LENGTH.size:
        raise Vanished
    (length,) = LENGTH.unpack(header)
    chunk = source.read(length)
    if len(chunk) < length:
        raise Vanished
    return chunk


def read_line(source: BinaryIO) -> dict[str, Any]:
    """The next line. Raises Vanished."""
    line = source.readline(LINE_BYTES)
    if not line.endswith(b"\n"):
        raise Vanished
    request: dict[str, Any] = json.loads(line)
    return request


def write_all(descriptor: int, chunk: bytes) -> None:
    """Writes all of a chunk, however little the system takes at a time."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def send(opened: int, size: int, sink: BinaryIO) -> None:
    """Sends that many bytes of a file. Raises Vanished if it has become shorter."""
    left = size
    while left:
        chunk = os.read(opened, min(left, COPY_BYTES))
        if not chunk:
            raise Vanished
        sink.write(chunk)
        left -= len(chunk)
    sink.flush()


def answer(sink: BinaryIO, **fields: Any) -> None:
    sink.write(json.dumps(fields).encode() + b"\n")
    sink.flush()


@contextmanager
def folder_at(start: int | str, parts: list[str], *, is_made: bool = False) -> Iterator[int]:
    """The folder at the end of a walk from name to name, none of which may be a link.

    Each step starts from a folder that is held open, so nothing that is moved or swapped
    meanwhile leads the walk elsewhere.
    """
    where = {} if isinstance(start, str) else {"dir_fd": start}
    folder = os.open(start if isinstance(start, str) else ".", FOLDER, **where)
    try:
        for count in range(1, len(parts) + 1):
            deeper = step(folder, parts[:count], is_made=is_made)
            os.close(folder)
            folder = deeper
        yield folder
    finally:
        os.close(folder)


def step(folder: int, parts: list[str], *, is_made: bool) -> int:
    """The folder of that last name, made if it is missing and is to be."""
    name = parts[-1]
    for _ in range(WALK_ATTEMPTS):
        try:
            return os.open(name, FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not is_made:
                raise
            # Somebody may make it, or take it away, at the same time.
            with suppress(FileExistsError):
                os.mkdir(name, NEW_DIRECTORY_MODE, dir_fd=folder)
        except OSError as failure:
            if failure.errno not in IN_THE_WAY:
                raise
            raise Refusal("refused", in_the_way(folder, parts)) from None
    raise Refusal("refused", f"{shown(parts)} does not stay in place.")


def in_the_way(folder: int, parts: list[str]) -> str:
    """Words for what is where a folder should be."""
    with suppress(OSError):
        known = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(known.st_mode):
            return f"{shown(parts)} is a symbolic link, and links are not followed."
    return f"{shown(parts)} is not a directory."


def must_be_file(info: os.stat_result, parts: list[str]) -> None:
    if stat.S_ISREG(info.st_mode):
        return
    if stat.S_ISDIR(info.st_mode):
        words = "is a directory."
    elif stat.S_ISLNK(info.st_mode):
        words = "is a symbolic link, and links are not followed."
    else:
        words = "is not a regular file."
    raise Refusal("refused", f"{shown(parts)} {words}")


@contextmanager
def temporary(root: int) -> Iterator[Temporary]:
    """A new file on the root's file system, gone afterwards unless it was placed."""
    name = None
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        opened = os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=root)
    except OSError as failure:
        if failure.errno not in NO_UNNAMED_FILES:
            raise
        name = hidden_name()
        flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        opened = os.open(name, flags, 0o600, dir_fd=root)
    file = Temporary(opened, root, name)
    try:
        yield file
    finally:
        file.sweep()


def hidden_name() -> str:
    return f".{os.urandom(8).hex()}.part"


def checked(parts: list[str]) -> list[str]:
    """The names, if each is one: the server has parsed them, but here is where it counts.

    An empty one is allowed at the end; see `place`.
    """
    for index, part in enumerate(parts):
        is_folder_mark = part == "" and index > 0 and index == len(parts) - 1
        if (not part and not is_folder_mark) or part in {".", ".."} or "/" in part or "\0" in part:
            raise Refusal("refused", f"{part!r} is not a file name.")
        if len(part.encode()) > NAME_BYTES:
            raise Refusal("refused", f"A name is longer than {NAME_BYTES} bytes.")
    return parts


def row_of(entry: os.DirEntry[str]) -> list[str | int]:
    """What the list tells of an entry. Bytes of its name that are not UTF-8 become U+FFFD."""
    info = entry.stat(follow_symlinks=False)
    name = os.fsencode(entry.name).decode("utf-8", "replace")
    return [name, info.st_mode, info.st_size, int(info.st_mtime)]


def shown(parts: list[str]) -> str:
    return "/".join(part for part in parts if part) or "."


def end_when_alone() -> None:
    """Ends the program once its input is closed: to write to nobody would block for ever."""
    closed = select.poll()
    closed.register(sys.stdin.fileno(), 0)
    closed.poll()
    os._exit(1)


if __name__ == "__main__":
    # A client that leaves, or a file that shrinks while it is sent: nobody can be told.
    try:
        main(
            sys.stdin.buffer,
            sys.stdout.buffer,
            lambda: _thread.start_new_thread(end_when_alone, ()),
        )
    except (Vanished, BrokenPipeError):
        os._exit(1)
