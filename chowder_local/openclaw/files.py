"""Lists, reads and writes an agent's files inside its sandbox; content is streamed both ways."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pydantic import TypeAdapter

from chowder_local.core.errors.agents import (
    FileMissing,
    FileRefused,
    FileTooLarge,
    GatewayUnavailable,
    SandboxFull,
)
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.openclaw.sandbox_exec import json_line, last_stderr_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.file_programs import Exchange, FilePrograms
    from chowder_local.openclaw.sandbox_exec import Process

MAX_TEXT_BYTES = 10 * 1024 * 1024
MAX_LISTING_BYTES = 128 * 1024 * 1024
MAX_ENTRIES = 200_000
MAX_ROW_BYTES = 4 * 1024
"""Far more than a name of 255 bytes takes; the folder may have MAX_ENTRIES of them."""
MAX_HEADER_BYTES = 64 * 1024
CHUNK_BYTES = 256 * 1024
READ_TIMEOUT_S = 120.0
"""For a listing or a text; one that comes byte by byte never stalls."""
TRANSFER_IDLE_TIMEOUT_S = 60.0
PROGRAMS_PER_SANDBOX = 8
"""Concurrent transfers per sandbox: each is a process that takes memory from the agent."""

_ROW = TypeAdapter(tuple[str, int, int, int])
_END_MARK = bytes(4)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a folder; a symbolic link is described as a link, not as its target."""

    name: str
    path: str
    is_dir: bool
    size: int
    mod_time: datetime
    permissions: str


@dataclass(frozen=True)
class Folder:
    """A folder's entries; `path` is normalized and relative to the root, "." for the root."""

    path: str
    entries: list[Entry]


@dataclass(frozen=True)
class Download:
    """A file that is open in its sandbox until `chunks` is closed."""

    name: str
    size: int
    chunks: AsyncGenerator[bytes, None]


@dataclass(eq=False, repr=False)
class Writing:
    """A file that is being written to a sandbox; it does not exist there before `place`."""

    exchange: Exchange

    async def write(self, chunk: bytes) -> None:
        """Appends to the content. Raises EngineUnavailable."""
        for start in range(0, len(chunk), CHUNK_BYTES):
            piece = chunk[start : start + CHUNK_BYTES]
            await self.exchange.process.write(len(piece).to_bytes(4, "big") + piece)

    async def place(self, path: str, file_name: str | None = None) -> None:
        """Ends the content and moves the file to `path` atomically.

        With `file_name`, the path may be a folder's: one that exists, or a path that ends with "/".
        Raises FileRefused if the path cannot be used, SandboxFull if the disk is full,
        GatewayUnavailable, EngineUnavailable.
        """
        parts = split_path(path)
        if parts and path.endswith("/"):
            parts.append("")
        target = {"parts": parts, "into": file_name}
        await self.exchange.process.write(_END_MARK + json_line(target))
        await _header(self.exchange, bytearray())


@dataclass(eq=False, repr=False)
class Files:
    """Files below one root folder of every sandbox, through programs that run as the agent's user.

    Paths are relative to the root. Symbolic links are never followed.
    """

    programs: FilePrograms
    root: str
    _: KW_ONLY
    idle_timeout_s: float
    """How long an upload or download may go without progress."""

    def __post_init__(self) -> None:
        self._slots: WeakValueDictionary[SandboxId, asyncio.Semaphore] = WeakValueDictionary()

    async def folder(self, sandbox_id: SandboxId, path: str, *, remove: str = "") -> Folder:
        """A folder's entries, sorted by name; removes the files whose names begin with `remove`.

        Like all methods of this class, it raises FileMissing if nothing is at the path, FileRefused
        if the path cannot be used, GatewayUnavailable, EngineUnavailable, SandboxMissing and
        SandboxPaused.
        """
        parts = split_path(path)
        request = {"op": "list", "parts": parts, "remove": remove}
        content = await self._read(sandbox_id, request, MAX_LISTING_BYTES)
        # Parsing thousands of entries would block the event loop.
        return await asyncio.to_thread(_folder, parts, content)

    async def text(self, sandbox_id: SandboxId, path: str) -> str:
        """A file's text. Raises FileRefused if it is no UTF-8, FileTooLarge if too large."""
        request = {"op": "read", "parts": split_path(path), "limit": MAX_TEXT_BYTES}
        content = await self._read(sandbox_id, request, MAX_TEXT_BYTES)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise FileRefused(
                f"{path} is not UTF-8 text; GET …/files/download gives its bytes."
            ) from None

    async def download(self, sandbox_id: SandboxId, path: str) -> Download:
        """A file's bytes, as many as it has now. The caller must close `chunks`.

        `chunks` raises StreamBroken if the file shrinks in the meantime.
        """
        parts = split_path(path)
        chunks = self._send(sandbox_id, {"op": "read", "parts": parts})
        size = int(await anext(chunks))
        return Download(parts[-1] if parts else "", size, chunks)

    async def write_text(self, sandbox_id: SandboxId, path: str, content: str) -> None:
        """Creates or replaces a file and its folders. Raises SandboxFull if the disk is full."""
        split_path(path)
        async with self.writing(sandbox_id) as writing:
            await writing.write(content.encode())
            await writing.place(path)

    @asynccontextmanager
    async def writing(self, sandbox_id: SandboxId) -> AsyncIterator[Writing]:
        """A new file; nothing changes unless `place` is called in the block."""
        async with self._run(sandbox_id, {"op": "write"}) as exchange:
            yield Writing(exchange)

    async def _read(self, sandbox_id: SandboxId, request: dict[str, Any], max_bytes: int) -> bytes:
        """The whole content that the program answers with; GatewayUnavailable if it takes long."""
        try:
            async with (
                asyncio.timeout(READ_TIMEOUT_S),
                self._run(sandbox_id, request) as exchange,
            ):
                return await _content(exchange, max_bytes)
        except TimeoutError:
            raise _late() from None

    async def _send(
        self, sandbox_id: SandboxId, request: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        """Yields the size in decimal digits, then the content."""
        async with self._run(sandbox_id, request) as exchange:
            rest = bytearray()
            left = await _header(exchange, rest)
            yield str(left).encode()
            async for chunk in _exactly(exchange, rest, left):
                yield chunk

    @asynccontextmanager
    async def _run(self, sandbox_id: SandboxId, request: dict[str, Any]) -> AsyncIterator[Exchange]:
        """Sends a program the request; waits while PROGRAMS_PER_SANDBOX others are in use."""
        slots = self._slots.get(sandbox_id)
        if slots is None:
            slots = self._slots[sandbox_id] = asyncio.Semaphore(PROGRAMS_PER_SANDBOX)
        try:
            async with asyncio.timeout(self.idle_timeout_s):
                await slots.acquire()
        except TimeoutError:
            raise GatewayUnavailable("too many file transfers at once; try again later") from None
        try:
            async with self.programs.exchange(sandbox_id) as exchange:
                await exchange.process.write(json_line(request | {"root": self.root}))
                yield exchange
        finally:
            slots.release()


def split_path(path: str) -> list[str]:
    """The names on the way from the root to a path, with "." and ".." resolved.

    Raises FileRefused if it is absolute, leads out of the root or has a NUL byte.
    """
    if "\0" in path:
        raise FileRefused("A path cannot hold a NUL byte.")
    if path.startswith("/"):
        raise FileRefused(f"Paths are relative to the instance root, but {path!r} is absolute.")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise FileRefused(f"The path {path!r} leads out of the instance root.")
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return parts


async def _header(exchange: Exchange, rest: bytearray) -> int:
    """Reads the size of the content; appends content that has come already to `rest`."""
    process, head = exchange.process, bytearray()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            while b"\n" not in head:
                chunk = await process.read()
                head += chunk
                if not chunk or len(head) > MAX_HEADER_BYTES + CHUNK_BYTES:
                    raise _unanswered(process)
    except TimeoutError:
        raise _late() from None
    line, _, content = bytes(head).partition(b"\n")
    rest += content
    try:
        header = json.loads(line)
        if isinstance(header, dict) and "error" in header:
            exchange.is_complete = not rest
            raise _failure(str(header["error"]), str(header.get("message"))[:1000])
        size = header["size"]
        if isinstance(size, int) and size >= 0:
            exchange.is_complete = not size and not rest
            return size
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _unanswered(process)


def _failure(code: str, reason: str) -> Exception:
    if code == "missing":
        return FileMissing()
    if code == "too_large":
        return FileTooLarge(reason, MAX_TEXT_BYTES)
    if code == "full":
        return SandboxFull()
    if code == "refused":
        return FileRefused(reason)
    return GatewayUnavailable(f"the file operation failed in the sandbox: {reason}")


def _unanswered(process: Process) -> GatewayUnavailable:
    reason = last_stderr_line(process, "no answer")
    return GatewayUnavailable(f"the file program in the sandbox ended with: {reason}")


def _late() -> GatewayUnavailable:
    return GatewayUnavailable(
        f"the file program in the sandbox has not answered within {READ_TIMEOUT_S:.0f} s"
    )


async def _content(exchange: Exchange, limit_bytes: int) -> bytes:
    rest = bytearray()
    size = await _header(exchange, rest)
    if size > limit_bytes:
        raise GatewayUnavailable("the sandbox answered more than can be read")
    content = bytearray()
    async for chunk in _exactly(exchange, rest, size):
        content += chunk
    return bytes(content)


async def _exactly(exchange: Exchange, rest: bytearray, size: int) -> AsyncIterator[bytes]:
    """Yields `size` bytes: those in `rest`, then those that the program sends."""
    left = size
    while left:
        chunk = bytes(rest) or await exchange.process.read()
        rest.clear()
        if not chunk:
            raise StreamBroken("The file changed, or its sandbox ended, while it was read.")
        exchange.is_complete = len(chunk) == left
        yield chunk[:left]
        left -= len(chunk[:left])


def _folder(parts: list[str], content: bytes) -> Folder:
    prefix = "".join(f"{part}/" for part in parts)
    try:
        if content.count(b"\n") >= MAX_ENTRIES:
            raise ValueError("too many entries")
        # One by one, so that other threads run in between.
        entries = [_entry(prefix, row) for row in content.splitlines()]
    except ValueError:
        raise GatewayUnavailable(
            "the file program in the sandbox returned an invalid listing"
        ) from None
    return Folder("/".join(parts) or ".", entries)


def _entry(prefix: str, row: bytes) -> Entry:
    if len(row) > MAX_ROW_BYTES:
        raise ValueError("the name of an entry is too long")
    name, mode, size, mtime = _ROW.validate_json(row)
    return Entry(
        name=name,
        path=prefix + name,
        is_dir=stat.S_ISDIR(mode),
        size=size,
        mod_time=_time(mtime),
        permissions=stat.filemode(mode & 0xFFFF),
    )


def _time(seconds: int) -> datetime:
    # A file may have any year, but a datetime holds the years 1 to 9999 only.
    return _EPOCH + timedelta(seconds=min(max(seconds, _FIRST_S), _LAST_S))
