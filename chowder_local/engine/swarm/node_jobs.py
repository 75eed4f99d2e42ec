"""Programs on the volumes of paused and exited sandboxes, on the nodes that have these volumes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.engine.container_exec import DockerProcess
    from chowder_local.engine.docker import DockerEngine


@dataclass(eq=False, repr=False)
class NodeJobs:
    """Implements `Processes`, as `VolumeJobs` does for one engine."""

    engine_of: Callable[[SandboxId], Awaitable[DockerEngine]]

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program on the sandbox's volume, on its node; leaving the block ends it."""
        engine = await self.engine_of(sandbox_id)
        async with engine.volume_jobs.process(sandbox_id, command) as process:
            yield process
