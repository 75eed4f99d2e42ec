"""Reads and writes an agent's files from inside its sandbox, as the agent's own user.

In: one line of JSON {op, root, parts, limit, remove}; for a write {op, root}, then the content as
chunks, each with its length before it, an empty chunk as end mark, and a line {parts, into}. Out:
one line of JSON {size} and as many bytes of content, or {error, message}. Truncated input changes
nothing. Then comes the next request; {op: ready} has no effect. The program ends with its input.
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
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

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


class Upload:
    """The content and the target of a write, which are read once and in this order."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._has_ended = False
        self._target: dict[str, Any] | None = None

    def chunks(self) -> Iterator[bytes]:
        """The rest of the content. Raises Truncated if the input ends first."""
        while not self._has_ended:
            if chunk := read_chunk(self._source):
                yield chunk
            else:
                self._has_ended = True

    def target(self) -> dict[str, Any]:
        """The line after the content; passes over what is left of that."""
        if self._target is None:
            for _ in self.chunks():
                pass
            self._target = read_line(self._source)
        return self._target


class Hangup:
    """Ends the program if its input is closed during an answer: a write without a reader blocks."""

    def __init__(self) -> None:
        self._is_answering = self._has_come = False

    def watch(self) -> None:
        """Waits for the end of the input, in a thread of its own."""
        poll = select.poll()
        poll.register(sys.stdin.fileno(), 0)
        poll.poll()
        self._has_come = True
        if self._is_answering:
            os._exit(1)

    @contextmanager
    def answering(self) -> Iterator[None]:
        self._is_answering = True
        if self._has_come:
            os._exit(1)
        try:
            yield
        finally:
            self._is_answering = False


def main(
    source: BinaryIO,
    sink: BinaryIO,
    answering: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Executes one request and answers it; an answer that may be long is in `answering`."""
    os.umask(0o022)
    request = read_line(source)
    if request["op"] == "ready":
        answer(sink, size=0)
        return
    upload = Upload(source) if request["op"] == "write" else None
    try:
        # The agent could replace the root by a link, so it must not be one either.
        with folder_at("/", request["root"].strip("/").split("/")) as root:
            if upload is None:
                with answering():
                    OPERATIONS[request["op"]](root, request, sink)
            else:
                write_file(root, upload)
                answer(sink, size=0)
    except (Refusal, OSError) as failure:
        if upload is not None:
            # What follows it is the next request.
            upload.target()
        code, message = describe(failure)
        answer(sink, error=code, message=message)


def describe(failure: Refusal | OSError) -> tuple[str, str]:
    """The code of a failure for the server, and its message for a person."""
    if isinstance(failure, Refusal):
        return failure.code, str(failure)
    if isinstance(failure, FileNotFoundError):
        return "missing", ""
    if isinstance(failure, PermissionError):
        return "refused", "The agent's user has no permission for that."
    code = "full" if failure.errno in NO_SPACE else "failed"
    return code, failure.strerror or "unknown error"


def list_folder(root: int, request: dict[str, Any], sink: BinaryIO) -> None:
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


def read_file(root: int, request: dict[str, Any], sink: BinaryIO) -> None:
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


OPERATIONS = {"list": list_folder, "read": read_file}


def write_file(root: int, upload: Upload) -> None:
    """Receives a file's content, then its path; changes nothing before both are complete."""
    with temporary(root) as file:
        receive(upload, file.descriptor)
        target = upload.target()
        place(root, file, check_names(target["parts"]), target.get("into"))


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


def receive(upload: Upload, descriptor: int) -> None:
    """Writes the content to a file, and brings it to the disk."""
    unsynced = 0
    for chunk in upload.chunks():
        write_all(descriptor, chunk)
        unsynced += len(chunk)
        # In steps, because one long sync at the end could exceed the idle timeout.
        if unsynced >= SYNC_BYTES:
            os.fdatasync(descriptor)
            unsynced = 0
    os.fsync(descriptor)


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
    """Sends `size` bytes of a file. Raises Truncated if it is shorter now or cannot be read."""
    left = size
    while left:
        try:
            chunk = os.read(descriptor, min(left, COPY_BYTES))
        except OSError:
            # An error's answer would be taken for content.
            raise Truncated from None
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


if __name__ == "__main__":
    hangup = Hangup()
    _thread.start_new_thread(hangup.watch, ())
    # If the client has gone or a file shrinks while it is sent, no answer is possible.
    try:
        with open(0, "rb") as requests:
            # It does not end by itself: the engine may drop what an ended program wrote.
            while requests.peek(1):
                main(requests, sys.stdout.buffer, hangup.answering)
    except (Truncated, BrokenPipeError):
        os._exit(1)
