"""Runs programs for sandboxes on this machine, as child processes."""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chowder_local.engine.specs import HOME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from chowder_local.core.domain import SandboxId

Done = TypeVar("Done")
READ_BYTES = 256 * 1024


class LocalProcess:
    """A child of the test process; the requests to it may name a folder of its home."""

    def __init__(self, child: asyncio.subprocess.Process, home: str) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.child = child
        self._home = home
        self._input, self._output = child.stdin, child.stdout

    async def write(self, chunk: bytes) -> None:
        # Content has its length before it.
        if chunk.startswith(b"{"):
            chunk = chunk.replace(f'"{HOME}/'.encode(), f'"{self._home}/'.encode())
        self._input.write(chunk)
        await self._input.drain()

    async def read(self) -> bytes:
        return await self._output.read(READ_BYTES)

    @property
    def stderr_tail(self) -> str:
        return ""

    async def leave(self) -> None:
        """Closes the input and waits for the end; then the program's files can be inspected."""
        self._input.close()
        while await self.read():
            pass
        await self.child.wait()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._input.wait_closed()


class LocalProcesses:
    """Implements `Processes`, for Python programs only; a sandbox's HOME is `home_of` it."""

    def __init__(self, home_of: Callable[[SandboxId], Path] = lambda _: Path(HOME)) -> None:
        self._home_of = home_of
        self.failing: Exception | None = None
        self.children: list[asyncio.subprocess.Process] = []
        self.running = 0
        self.most_running = 0
        self.unpacked = 0

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[LocalProcess]:
        if self.failing is not None:
            raise self.failing
        home = str(self._home_of(sandbox_id))
        interpreter, *arguments = (home if each == HOME else each for each in command)
        assert interpreter == "/usr/bin/python3"
        creating = asyncio.ensure_future(
            asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
        )
        try:
            child = await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The child was created nevertheless.
            await to_its_end(LocalProcess(await to_its_end(creating), home).leave())
            raise
        self.children.append(child)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        process = LocalProcess(child, home)
        try:
            yield process
        finally:
            # Leaving a real process does not wait, even in a cancelled task.
            try:
                await to_its_end(process.leave())
            finally:
                self.running -= 1

    async def unpack(self, _: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        if self.failing is not None:
            raise self.failing
        await asyncio.to_thread(unpack, folder, archive)
        self.unpacked += 1


def unpack(folder: str, archive: Iterable[bytes]) -> None:
    """Unpacks an archive in a folder."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
        if hasattr(tarfile, "fully_trusted_filter"):
            tar.extraction_filter = tarfile.fully_trusted_filter
        tar.extractall(folder)


async def to_its_end(awaitable: Awaitable[Done]) -> Done:
    """Waits for an awaitable to end, and only then raises a cancellation."""
    task, cancelled = asyncio.ensure_future(awaitable), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as reason:
            cancelled = reason
    if cancelled is not None:
        raise cancelled
    return task.result()
