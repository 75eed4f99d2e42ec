"""Programs that are meant for a sandbox, run on this machine: only where they run is untrue."""

from __future__ import annotations

import asyncio
import io
import sys
import tarfile
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence

    from chowder_local.core.domain import SandboxId

Done = TypeVar("Done")
READ_BYTES = 256 * 1024


class LocalProcess:
    """A child of the test's own process."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.child = child
        self._input, self._output = child.stdin, child.stdout

    async def write(self, chunk: bytes) -> None:
        self._input.write(chunk)
        await self._input.drain()

    async def read(self) -> bytes:
        return await self._output.read(READ_BYTES)

    @property
    def complaint(self) -> str:
        return ""

    async def leave(self) -> None:
        """Closes both ends and waits, so that what the program leaves behind can be looked at."""
        self._input.close()
        while await self.read():
            pass
        await self.child.wait()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._input.wait_closed()


class LocalProcesses:
    """What `Processes` asks for; Python programs only."""

    def __init__(self) -> None:
        self.failing: Exception | None = None
        self.running = 0
        self.most_running = 0
        self.unpacked = 0

    @asynccontextmanager
    async def process(self, _: SandboxId, command: Sequence[str]) -> AsyncIterator[LocalProcess]:
        if self.failing is not None:
            raise self.failing
        interpreter, *arguments = command
        assert interpreter == "/usr/bin/python3"
        creating = asyncio.ensure_future(
            asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
        )
        try:
            child = await asyncio.shield(creating)
        except asyncio.CancelledError:
            # It is there all the same.
            await to_its_end(LocalProcess(await to_its_end(creating)).leave())
            raise
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        process = LocalProcess(child)
        try:
            yield process
        finally:
            # A real one is left at once, even by what is being cancelled.
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
    """Puts in a folder what is in an archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
        if hasattr(tarfile, "fully_trusted_filter"):
            tar.extraction_filter = tarfile.fully_trusted_filter
        tar.extractall(folder)


async def to_its_end(doing: Awaitable[Done]) -> Done:
    """Waits for it, however often that is cancelled meanwhile."""
    task, cancelled = asyncio.ensure_future(doing), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as reason:
            cancelled = reason
    if cancelled is not None:
        raise cancelled
    return task.result()
