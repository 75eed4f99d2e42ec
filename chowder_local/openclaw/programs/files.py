"""Reads and writes an agent's files from inside its sandbox, as the agent's own user.

In: one line of JSON {op, root, parts, limit, remove}; for a write {op, root}, then the content as
chunks, each with its length before it, an empty chunk as end mark, and a line {parts, into}. Out:
one line of JSON {size} and as many bytes of content, or {error, message}. Truncated input changes
nothing.
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
# Opens a folder on the way to a file, and refuses symbolic links.
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO could block, and a terminal could become the controlling one.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
NOT_A_FOLDER = {errno.ENOTDIR, errno.ELOOP}
SWAPPED = {errno.ELOOP, errno.ENXIO}


class Refusal(Exception):
    """The operation cannot be done; `code` is for the server, the message is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Truncated(Exception):
    """The input, or a file that is being sent, ended too early."""


class Temporary:
    """A new file without a name; with a hidden one if the file system has no unnamed files."""

    def __init__(self, descriptor: int, folder: int, name: str | None) -> None:
        self.descriptor = descriptor
        self._folder = folder
        self._name = name

    def place(self, folder: int, name: str) -> None:
        """Moves the file to its place atomically; an existing file there is replaced."""
        if self._name is not None:
            os.rename(self._name, name, src_dir_fd=self._folder, dst_dir_fd=folder)
            self._name = None
            return
        # link() cannot replace a file, rename() can.
        hidden = hidden_name()
        unnamed = f"/proc/self/fd/{self.descriptor}"
        os.link(unnamed, hidden, dst_dir_fd=folder, follow_symlinks=True)
        try:
            os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(hidden, dir_fd=folder)
            raise

    def close(self) -> None:
        """Closes the file, and deletes it unless it was placed."""
        os.close(self.descriptor)
        if self._name is not None:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)


def main(source: BinaryIO, sink: BinaryIO, watch: Callable[[], object] | None = None) -> None:
    """Executes one request and answers it; `watch` is called before an answer that may be long."""
    os.umask(0o022)
    request = read_line(source)
    if watch is not None and request["op"] != "write":
        watch()
    try:
        # The agent could replace the root by a link, so it must not be one either.
        with folder_at("/", request["root"].strip("/").split("/")) as root:
            OPERATIONS[request["op"]](root, request, source, sink)
    except Refusal as refusal:
        answer(sink, error=refusal.code, message=str(refusal))
    except FileNotFoundError:
        answer(sink, error="missing", message="")
    except PermissionError:
        answer(sink, error="refused", message="The agent's user has no permission for that.")
    except OSError as failure:
        code = "full" if failure.errno in NO_SPACE else "failed"
        answer(sink, error=code, message=failure.strerror or "unknown error")


def list_folder(root: int, request: dict[str, Any], _: BinaryIO, sink: BinaryIO) -> None:
    """Answers with a line of JSON [name, mode, size, mtime] for each entry of a folder.

    Removes the files whose names begin with `remove`, if the request has it.
    """
    parts = check_names(request["parts"])
    rows: list[tuple[str, int, int, int]] = []
    with folder_at(root, parts) as folder:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if len(rows) == MAX_ENTRIES:
                        raise Refusal(
                            "refused", f"{display(parts)} has over {MAX_ENTRIES} entries."
                        )
                    # The entry may have been deleted since.
                    with suppress(FileNotFoundError):
                        rows.append(row_of(entry))
        finally:
            os.close(descriptor)
        for name, mode, _size, _mtime in rows:
            if (prefix := request.get("remove")) and stat.S_ISREG(mode) and name.startswith(prefix):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
    rows.sort()
    content = "\n".join(map(json.dumps, rows)).encode()
    answer(sink, size=len(content))
    sink.write(content)
    sink.flush()


def read_file(root: int, request: dict[str, Any], _: BinaryIO, sink: BinaryIO) -> None:
    """Answers with a file's bytes, as many as it had when it was opened."""
    parts, limit = check_names(request["parts"]), request.get("limit")
    with folder_at(root, parts[:-1]) as folder:
        # Checked before it is opened, too: opening a FIFO would wake its writer.
        name = parts[-1] if parts else "."
        must_be_file(os.stat(name, dir_fd=folder, follow_symlinks=False), parts)
        try:
            descriptor = os.open(name, READ, dir_fd=folder)
        except OSError as failure:
            if failure.errno not in SWAPPED:
                raise
            raise Refusal("refused", f"{display(parts)} is not a regular file.") from None
    try:
        info = os.fstat(descriptor)
        must_be_file(info, parts)
        if limit is not None and info.st_size > limit:
            raise Refusal("too_large", display(parts))
        answer(sink, size=info.st_size)
        send(descriptor, info.st_size, sink)
    finally:
        os.close(descriptor)


def write_file(root: int, _: dict[str, Any], source: BinaryIO, sink: BinaryIO) -> None:
    """Receives a file's content, then its path; changes nothing before both are complete."""
    with temporary(root) as file:
        receive(source, file.descriptor)
        target = read_line(source)
        place(root, file, check_names(target["parts"]), target.get("into"))
    answer(sink, size=0)


OPERATIONS = {"list": list_folder, "read": read_file, "write": write_file}


def place(root: int, file: Temporary, parts: list[str], into: str | None) -> None:
    """Moves a file to its path; `into` is its name if the path is a folder's.

    A last part of "" says that the path must be a folder's.
    """
    if parts and parts[-1] == "":
        if into is None:
            raise Refusal("refused", f"{display(parts)}/ names a directory, not a file.")
        parts, into = [*parts[:-1], *check_names([into])], None
    with folder_at(root, parts[:-1], create=True) as folder:
        name = parts[-1] if parts else "."
        try:
            existing = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            mode = NEW_FILE_MODE
        else:
            if stat.S_ISDIR(existing.st_mode) and into is not None:
                place(root, file, [*parts, *check_names([into])], None)
                return
            must_be_file(existing, parts)
            mode = existing.st_mode & 0o777
        os.fchmod(file.descriptor, mode)
        try:
            file.place(folder, name)
        except (IsADirectoryError, FileExistsError):
            raise Refusal("refused", f"{display(parts)} is a directory.") from None


def receive(source: BinaryIO, descriptor: int) -> None:
    """Writes chunks until the end mark; reads them all even after a failure, to answer it."""
    failure: OSError | None = None
    unsynced = 0
    while chunk := read_chunk(source):
        if failure is not None:
            continue
        try:
            write_all(descriptor, chunk)
            unsynced += len(chunk)
            # In steps, because one long sync at the end could exceed the idle timeout.
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
    """The next chunk; empty at the end mark. Raises Truncated if the input ends first."""
    header = source.read(LENGTH.size)
    if len(header) < LENGTH.size:
        raise Truncated
    (length,) = LENGTH.unpack(header)
    chunk = source.read(length)
    if len(chunk) < length:
        raise Truncated
    return chunk


def read_line(source: BinaryIO) -> dict[str, Any]:
    """The next line. Raises Truncated if the input ends first."""
    line = source.readline(LINE_BYTES)
    if not line.endswith(b"\n"):
        raise Truncated
    request: dict[str, Any] = json.loads(line)
    return request


def write_all(descriptor: int, chunk: bytes) -> None:
    """Writes a whole chunk, with as many system calls as it takes."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def send(descriptor: int, size: int, sink: BinaryIO) -> None:
    """Sends `size` bytes of a file. Raises Truncated if the file has become shorter."""
    left = size
    while left:
        chunk = os.read(descriptor, min(left, COPY_BYTES))
        if not chunk:
            raise Truncated
        sink.write(chunk)
        left -= len(chunk)
    sink.flush()


def answer(sink: BinaryIO, **fields: Any) -> None:
    sink.write(json.dumps(fields).encode() + b"\n")
    sink.flush()


@contextmanager
def folder_at(start: int | str, parts: list[str], *, create: bool = False) -> Iterator[int]:
    """Opens the folder at a path none of whose parts may be a link.

    Each step starts from an open folder, so moving or replacing a folder in the meantime cannot
    lead outside of the root.
    """
    where = {} if isinstance(start, str) else {"dir_fd": start}
    folder = os.open(start if isinstance(start, str) else ".", FOLDER, **where)
    try:
        for count in range(1, len(parts) + 1):
            deeper = step(folder, parts[:count], create=create)
            os.close(folder)
            folder = deeper
        yield folder
    finally:
        os.close(folder)


def step(folder: int, parts: list[str], *, create: bool) -> int:
    """Opens the last of `parts` in the folder; creates it if it is missing and `create`."""
    name = parts[-1]
    for _ in range(WALK_ATTEMPTS):
        try:
            return os.open(name, FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
            # The agent may create or delete it at the same time.
            with suppress(FileExistsError):
                os.mkdir(name, NEW_DIRECTORY_MODE, dir_fd=folder)
        except OSError as failure:
            if failure.errno not in NOT_A_FOLDER:
                raise
            raise Refusal("refused", not_a_folder(folder, parts)) from None
    raise Refusal("refused", f"{display(parts)} keeps changing; try again.")


def not_a_folder(folder: int, parts: list[str]) -> str:
    """The message for something else at the path of a folder."""
    with suppress(OSError):
        info = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            return f"{display(parts)} is a symbolic link, and links are not followed."
    return f"{display(parts)} is not a directory."


def must_be_file(info: os.stat_result, parts: list[str]) -> None:
    if stat.S_ISREG(info.st_mode):
        return
    if stat.S_ISDIR(info.st_mode):
        problem = "is a directory."
    elif stat.S_ISLNK(info.st_mode):
        problem = "is a symbolic link, and links are not followed."
    else:
        problem = "is not a regular file."
    raise Refusal("refused", f"{display(parts)} {problem}")


@contextmanager
def temporary(root: int) -> Iterator[Temporary]:
    """A new file on the root's file system; it is deleted unless it was placed."""
    name = None
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        descriptor = os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=root)
    except OSError as failure:
        if failure.errno not in NO_UNNAMED_FILES:
            raise
        name = hidden_name()
        flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=root)
    file = Temporary(descriptor, root, name)
    try:
        yield file
    finally:
        file.close()


def hidden_name() -> str:
    return f".{os.urandom(8).hex()}.part"


def check_names(parts: list[str]) -> list[str]:
    """Returns the names of a path. Raises Refusal if one is no valid file name.

    The last one may be empty; see `place`.
    """
    for index, part in enumerate(parts):
        is_folder_mark = part == "" and index > 0 and index == len(parts) - 1
        if (not part and not is_folder_mark) or part in {".", ".."} or "/" in part or "\0" in part:
            raise Refusal("refused", f"{part!r} is not a file name.")
        if len(part.encode()) > NAME_BYTES:
            raise Refusal("refused", f"A name is longer than {NAME_BYTES} bytes.")
    return parts


def row_of(entry: os.DirEntry[str]) -> tuple[str, int, int, int]:
    """An entry's row in a listing. Bytes of its name that are not UTF-8 become U+FFFD."""
    info = entry.stat(follow_symlinks=False)
    name = os.fsencode(entry.name).decode("utf-8", "replace")
    return name, info.st_mode, info.st_size, int(info.st_mtime)


def display(parts: list[str]) -> str:
    return "/".join(part for part in parts if part) or "."


def exit_on_hangup() -> None:
    """Ends the program once its input is closed, because a write without a reader blocks."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), 0)
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    # If the client has gone or a file shrinks while it is sent, no answer is possible.
    try:
        main(
            sys.stdin.buffer,
            sys.stdout.buffer,
            lambda: _thread.start_new_thread(exit_on_hangup, ()),
        )
        # The engine may drop what an ended program wrote: this one ends once its answer was read.
        sys.stdin.buffer.read()
    except (Truncated, BrokenPipeError):
        os._exit(1)
