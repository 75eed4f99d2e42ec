"""The interface of the container engine that runs sandboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from chowder_local.core.domain import DEFAULT_VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from chowder_local.core.domain import (
        EngineMemory,
        EngineNode,
        SandboxId,
        SandboxInfo,
        SandboxSpec,
        SandboxUsage,
    )

Result = TypeVar("Result")


class Engine(Protocol):
    """Runs sandboxes. Every call raises EngineUnavailable if the engine fails it."""

    @property
    def fingerprint(self) -> str:
        """Identifies the image and the options that sandboxes are created with now."""

    @property
    def failure_count(self) -> int:
        """The number of calls that raised EngineUnavailable."""

    async def version(self) -> str:
        """The engine's name and version; shows that the engine answers."""

    async def check_image(self, version: str = DEFAULT_VERSION) -> None:
        """Raises ImageMissing if the sandbox image of an `openclaw_version` is not there."""

    async def file_of_image(self, path: str, version: str = DEFAULT_VERSION) -> bytes | None:
        """A file of such an image, or None. Raises ImageMissing if the image is not there."""

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        """Creates and starts a sandbox. Replaces a container with that id and keeps its volume.

        Raises ImageMissing if the sandbox image is gone.
        """

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        """The sandbox as it is now; its state is MISSING if it is gone."""

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """All sandboxes of this server, in one call to the engine."""

    async def volumes(self) -> set[SandboxId]:
        """The sandboxes of this server that have a volume, with or without a container."""

    async def pause(self, sandbox_id: SandboxId) -> None:
        """Freezes a running sandbox. Raises SandboxMissing if it is gone."""

    async def unpause(self, sandbox_id: SandboxId) -> None:
        """Resumes a sandbox, if it is paused. Raises SandboxMissing if it is gone."""

    async def promote(self, sandbox_id: SandboxId) -> None:
        """Gives a warm sandbox full processor weight. Raises SandboxMissing if it is gone."""

    async def release(self, sandbox_id: SandboxId) -> None:
        """Shuts down a sandbox cleanly: frees its memory and keeps its volume."""

    async def memory(self) -> EngineMemory:
        """Total and available memory of the machine that sandboxes run on."""

    def nodes(self) -> list[EngineNode]:
        """The machines that sandboxes run on, if they may be several; makes no call."""

    def node_of(self, sandbox_id: SandboxId) -> str | None:
        """The name of the machine that has a sandbox's files, if they may be several; no call."""

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        """Memory and processor use of running sandboxes; leaves out those that are gone."""

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        """The disk space that a running sandbox uses; counting stops once it exceeds `limit`.

        Raises SandboxMissing if it is gone.
        """

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        """Free space on a running sandbox's disk. Raises SandboxMissing if it is gone."""

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """Runs `work` in a thread on a tar stream of the sandbox's volume; returns its result.

        Names begin with `data/`. Raises SandboxMissing if it is gone, and what `work` raises.
        """

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        """Unpacks the archive `source`, runs a Python program on it, then `work` as `read_home`.

        The program gets the folder of the unpacked home as its argument.
        """

    async def examine_home(
        self, program: str, source: Path, files: Mapping[str, bytes], version: str
    ) -> bytes:
        """What a Python program prints about an unpacked archive, with `files` in its state folder.

        It runs in the image of an `openclaw_version`, without a network. Raises ImageMissing.
        """

    async def remove(self, sandbox_id: SandboxId) -> None:
        """Destroys a sandbox and its volume, if they exist."""

    async def processes(self, sandbox_id: SandboxId) -> list[str]:
        """The command lines of a running sandbox's processes; the container's own is the first.

        Raises SandboxMissing if it is gone.
        """

    async def log_tail(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> str:
        """The last lines of the sandbox's output, of those that are not older than `since`."""

    def follow_log(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> AsyncIterator[bytes]:
        """These lines, then each new one; yields empty bytes first, once the log is open."""
