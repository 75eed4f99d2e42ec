"""What instances ask of the engine that their sandboxes live on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator
    from pathlib import Path

    from chowder_local.core.domain import (
        EngineMemory,
        SandboxId,
        SandboxInfo,
        SandboxSpec,
        SandboxUsage,
    )

Result = TypeVar("Result")


class Engine(Protocol):
    """Runs sandboxes. Every call raises EngineUnavailable if the engine does not do it."""

    @property
    def fingerprint(self) -> str:
        """Tells apart sandboxes that were made of another image, or otherwise, than one now."""

    @property
    def failure_count(self) -> int:
        """How many calls raised EngineUnavailable."""

    async def version(self) -> str:
        """The engine's name and version; that it answers at all is the point."""

    async def check_image(self) -> None:
        """Raises ImageMissing if the image that sandboxes are made of is gone."""

    async def file_of_image(self, path: str) -> bytes | None:
        """A file of that image; None if it has no such file. Raises ImageMissing."""

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        """Makes and starts a sandbox, replacing one of that id; its volume, if any, is kept.

        Raises ImageMissing.
        """

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        """The sandbox as it is now; MISSING if it is gone."""

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """Every sandbox of ours, in one call."""

    async def volumes(self) -> set[SandboxId]:
        """Every sandbox of ours that has a volume, with or without a container."""

    async def pause(self, sandbox_id: SandboxId) -> None:
        """Freezes a running sandbox. Raises SandboxMissing, too."""

    async def unpause(self, sandbox_id: SandboxId) -> None:
        """Lets a paused sandbox go on; one that runs does. Raises SandboxMissing, too."""

    async def promote(self, sandbox_id: SandboxId) -> None:
        """Gives a warm sandbox as much of the processor as any other. Raises SandboxMissing."""

    async def release(self, sandbox_id: SandboxId) -> None:
        """Ends a paused sandbox in good order: its memory is free, its volume stays."""

    async def memory(self) -> EngineMemory:
        """What the machine that sandboxes run on has, and has left."""

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        """What running ones take of memory and processors; without those that are gone."""

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        """What a running one takes of the disk, counted until it is more than a limit.

        Raises SandboxMissing, too.
        """

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        """What is left of the disk that a running one's files are on. Raises SandboxMissing."""

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """What `work` makes, in a thread, of an archive of what is on its volume, as it comes.

        Names begin with `data/`. Raises SandboxMissing, and what `work` raises.
        """

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """The same of an archive of a home that a Python program, which gets its folder as
        argument, has changed.
        """

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox and its volume; nothing happens if they are gone."""

    async def log_tail(self, sandbox_id: SandboxId, line_count: int) -> str:
        """The last lines that the sandbox printed."""

    def follow_log(self, sandbox_id: SandboxId, line_count: int) -> AsyncIterator[bytes]:
        """The last lines and each new one as it comes; an empty piece first, once it is open."""
