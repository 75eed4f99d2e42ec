"""An agent's files: listed, read and written inside its sandbox, streamed both ways."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pydantic import TypeAdapter, ValidationError

from chowder_local.core.errors.agents import (
    FileMissing,
    FileRefused,
    FileTooLarge,
    GatewayUnavailable,
    SandboxFull,
)
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.openclaw.sandbox_exec import command, json_line, last_complaint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Process, Processes

MAX_TEXT_BYTES = 10 * 1024 * 1024
MAX_LISTING_BYTES = 128 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
CHUNK_BYTES = 256 * 1024
PROGRAMS_PER_SANDBOX = 8
"""Each is a process in the sandbox, whose memory the agent needs for itself."""

_ROWS = TypeAdapter(list[tuple[str, int, int, int]])
_END_MARK = bytes(4)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a folder; a symbolic link is shown as itself, never as what it leads to."""

    name: str
    path: str
    is_dir: bool
    size: int
    mod_time: datetime
    permissions: str


@dataclass(frozen=True)
class Folder:
    """What is in a folder; `path` is as short as it can be said, "." for the root."""

    path: str
    entries: list[Entry]


@dataclass(frozen=True)
class Download:
    """A file that is open in its sandbox until `chunks` is closed."""

    name: str
    size: int
    chunks: AsyncGenerator[bytes, None]


class Writing:
    """A file on its way into a sandbox; there is nothing of it before `place`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def write(self, chunk: bytes) -> None:
        """Adds to the content. Raises EngineUnavailable."""
        for start in range(0, len(chunk), CHUNK_BYTES):
            piece = chunk[start : start + CHUNK_BYTES]
            await self._process.write(len(piece).to_bytes(4, "big") + piece)

    async def place(self, path: str, file_name: str | None = None) -> None:
        """Ends the content and puts the file in its place, at once and whole.

        With a file name, the path may be that of a folder: one that is there, or ends with "/".
        Raises FileRefused, SandboxFull, GatewayUnavailable, EngineUnavailable.
        """
        parts = split_path(path)
        if parts and path.endswith("/"):
            parts.append("")
        target = {"parts": parts, "into": file_name}
        await self._process.write(_END_MARK + json_line(target))
        await _header(self._process, bytearray())


class Files:
    """Files below one root folder in every sandbox, by programs that run as the agent's user.

    Paths are relative to the root. Symbolic links are not followed, wherever they lead.
    """

    def __init__(self, processes: Processes, root: str, *, idle_timeout_s: float) -> None:
        self._processes = processes
        self._root = root
        self.idle_timeout_s = idle_timeout_s
        """How long a client may move nothing while it uploads or downloads."""
        self._command = command("files.py")
        self._slots: WeakValueDictionary[SandboxId, asyncio.Semaphore] = WeakValueDictionary()

    async def folder(self, sandbox_id: SandboxId, path: str) -> Folder:
        """What is in a folder, by name.

        Raises FileMissing, FileRefused, GatewayUnavailable, EngineUnavailable, SandboxMissing,
        SandboxPaused, as all calls of this class do.
        """
        parts = split_path(path)
        async with self._running(sandbox_id, {"op": "list", "parts": parts}) as process:
            content = await _content(process, MAX_LISTING_BYTES)
        # Thousands of entries would keep everybody else waiting.
        return await asyncio.to_thread(_folder, parts, content)

    async def text(self, sandbox_id: SandboxId, path: str) -> str:
        """A file's text. Raises FileRefused if it is none, FileTooLarge."""
        request = {"op": "read", "parts": split_path(path), "limit": MAX_TEXT_BYTES}
        async with self._running(sandbox_id, request) as process:
            content = await _content(process, MAX_TEXT_BYTES)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise FileRefused(
                f"{path} is not UTF-8 text; GET …/files/download gives its bytes."
            ) from None

    async def download(self, sandbox_id: SandboxId, path: str) -> Download:
        """A file's bytes, as many as it has now; whoever takes them closes `chunks`.

        `chunks` raises StreamBroken if the file becomes shorter meanwhile.
        """
        parts = split_path(path)
        sending = self._sending(sandbox_id, {"op": "read", "parts": parts})
        size = int(await anext(sending))
        return Download(parts[-1] if parts else "", size, sending)

    async def write_text(self, sandbox_id: SandboxId, path: str, content: str) -> None:
        """Makes a file, or replaces one, with the folders above it. Raises SandboxFull."""
        split_path(path)
        async with self.writing(sandbox_id) as writing:
            await writing.write(content.encode())
            await writing.place(path)

    @asynccontextmanager
    async def writing(self, sandbox_id: SandboxId) -> AsyncIterator[Writing]:
        """A new file; nothing is changed if the block is left before it was placed."""
        async with self._running(sandbox_id, {"op": "write"}) as process:
            yield Writing(process)

    async def _sending(
        self, sandbox_id: SandboxId, request: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        """The size in digits, then the content."""
        async with self._running(sandbox_id, request) as process:
            rest = bytearray()
            left = await _header(process, rest)
            yield str(left).encode()
            async for chunk in _exactly(process, rest, left):
                yield chunk

    @asynccontextmanager
    async def _running(
        self, sandbox_id: SandboxId, request: dict[str, Any]
    ) -> AsyncIterator[Process]:
        """The program, which has been told what to do, once there is room for it."""
        slots = self._slots.get(sandbox_id)
        if slots is None:
            slots = self._slots[sandbox_id] = asyncio.Semaphore(PROGRAMS_PER_SANDBOX)
        try:
            async with asyncio.timeout(self.idle_timeout_s):
                await slots.acquire()
        except TimeoutError:
            raise GatewayUnavailable("too many file transfers at once; try again later") from None
        try:
            async with self._processes.process(sandbox_id, self._command) as process:
                await process.write(json_line(request | {"root": self._root}))
                yield process
        finally:
            slots.release()


def split_path(path: str) -> list[str]:
    """The names that lead from the root to a path, "." and ".." resolved.

    Raises FileRefused if it is absolute, leads out of the root or cannot be a path.
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


async def _header(process: Process, rest: bytearray) -> int:
    """How many bytes of content follow; those that came already are put into `rest`."""
    head = bytearray()
    while b"\n" not in head:
        chunk = await process.read()
        head += chunk
        if not chunk or len(head) > MAX_HEADER_BYTES + CHUNK_BYTES:
            raise _unanswered(process)
    line, _, behind = bytes(head).partition(b"\n")
    rest += behind
    try:
        header = json.loads(line)
        if isinstance(header, dict) and "error" in header:
            raise _failure(str(header["error"]), str(header.get("words"))[:1000])
        size = header["size"]
        if isinstance(size, int) and size >= 0:
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
    return GatewayUnavailable(f"the sandbox could not do it: {reason}")


def _unanswered(process: Process) -> GatewayUnavailable:
    reason = last_complaint(process, "no answer")
    return GatewayUnavailable(f"the file program in the sandbox ended with: {reason}")


async def _content(process: Process, limit_bytes: int) -> bytes:
    rest = bytearray()
    size = await _header(process, rest)
    if size > limit_bytes:
        raise GatewayUnavailable("the sandbox answered more than can be read")
    content = bytearray()
    async for chunk in _exactly(process, rest, size):
        content += chunk
    return bytes(content)


async def _exactly(process: Process, rest: bytearray, size: int) -> AsyncIterator[bytes]:
    """That many bytes: those that are there already, then those to come."""
    left = size
    while left:
        chunk = bytes(rest) or await process.read()
        rest.clear()
        if not chunk:
            raise StreamBroken("The file changed, or its sandbox ended, while it was read.")
        yield chunk[:left]
        left -= len(chunk[:left])


def _folder(parts: list[str], content: bytes) -> Folder:
    try:
        rows = _ROWS.validate_json(content)
    except ValidationError:
        raise GatewayUnavailable("the file program in the sandbox listed nonsense") from None
    above = "".join(f"{part}/" for part in parts)
    entries = [
        Entry(
            name=name,
            path=above + name,
            is_dir=stat.S_ISDIR(mode),
            size=size,
            mod_time=_time(mtime),
            permissions=stat.filemode(mode & 0xFFFF),
        )
        for name, mode, size, mtime in rows
    ]
    return Folder("/".join(parts) or ".", entries)


def _time(seconds: int) -> datetime:
    # A file may claim to be of any year, but a time of ours has four digits for it.
    return _EPOCH + timedelta(seconds=min(max(seconds, _FIRST_S), _LAST_S))
