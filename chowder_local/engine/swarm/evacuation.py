"""Moves sandboxes' files from drained nodes to others."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from chowder_local.core.domain import SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import KeyedLocks, logging_errors, run_every
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.swarm.tunnel import TargetRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from chowder_local.core.domain import SandboxId, SandboxInfo
    from chowder_local.engine.container_exec import DockerProcess
    from chowder_local.engine.docker import DockerEngine
    from chowder_local.engine.swarm.nodes import Node, Nodes
    from chowder_local.engine.swarm.services import SwarmServices

log = logging.getLogger(__name__)


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


INTERVAL_S = 3.0
CLOSED_INTERVAL_S = 0.5
_IN_MEMORY = {SandboxState.RUNNING, SandboxState.PAUSED}


@dataclass(eq=False, repr=False)
class NodeEvacuation:
    """`node_ids` has the node of each sandbox, and is kept up to date."""

    nodes: Nodes
    services: SwarmServices
    node_ids: dict[SandboxId, str]

    def __post_init__(self) -> None:
        self._locks = KeyedLocks()

    async def run(self) -> None:
        """Empties drained nodes, until cancelled: agents at rest move, too."""
        async with asyncio.TaskGroup() as group:
            group.create_task(run_every(INTERVAL_S, "emptying drained nodes", self.empty))
            group.create_task(
                run_every(CLOSED_INTERVAL_S, "ending closed sandboxes", self.end_closed)
            )

    async def end_closed(self) -> None:
        """Ends the sandboxes on drained nodes whose gateways take no connections any more.

        Swarm has told them to end. A gateway closes once its turns have ended, and then takes
        some seconds more in which nobody can use the agent.
        """
        for node in self._drained():
            running = [
                self._end_if_closed(node, each, each.gateway_url)
                for each in (await node.engine.sandboxes()).values()
                if each.state is SandboxState.RUNNING and each.gateway_url is not None
            ]
            await asyncio.gather(*running)

    async def _end_if_closed(self, node: Node, sandbox: SandboxInfo, gateway_url: str) -> None:
        address = urlsplit(gateway_url).hostname
        with logging_errors(f"sandbox {sandbox.id}: ending it on {node.member.hostname}"):
            try:
                _, writer = await self.nodes.links.dial(node.place, f"sandbox {address}")
                writer.close()
            except TargetRefused:
                log.info("sandbox %s has closed its gateway, and ends", sandbox.id)
                await node.engine.discard(sandbox.id)

    def _drained(self) -> list[Node]:
        return [each for each in self.nodes.linked.values() if each.member.is_drained]

    async def empty(self) -> None:
        """One round over all drained nodes, from which Swarm takes what runs by itself."""
        for node in self._drained():
            running = await node.engine.sandboxes()
            for sandbox_id in await node.engine.volumes():
                info = running.get(sandbox_id)
                if info is None or info.state not in _IN_MEMORY:
                    with logging_errors(
                        f"sandbox {sandbox_id}: moving it from {node.member.hostname}"
                    ):
                        await self.move(sandbox_id, node)

    async def move(self, sandbox_id: SandboxId, source: Node) -> str:
        """Moves a sandbox that does not run to the node with the most free memory; returns its id.

        Until all is there and Swarm's records say so, the source keeps what it has. Raises
        EngineUnavailable if there is no other node.
        """
        async with self._locks.holding(sandbox_id):
            placed = await self.nodes.threads.run(self._placed)
            owner_id = placed.get(sandbox_id, source.member.id)
            if owner_id == source.member.id:
                owner_id = await self._copy(sandbox_id, source)
            # Another node has the whole home now, perhaps since an earlier move that ended before
            # this removal.
            await source.engine.remove(sandbox_id)
            self.node_ids[sandbox_id] = owner_id
            return owner_id

    async def _copy(self, sandbox_id: SandboxId, source: Node) -> str:
        target = self._target()
        # An interrupted move may have left a part of the home there.
        await target.engine.remove(sandbox_id)
        with TemporaryFile(dir=self.nodes.links.folder) as file:
            await source.engine.read_home(sandbox_id, partial(_write, file))
            await target.engine.put_volume(sandbox_id, file)
        await self.nodes.threads.run(self._park, sandbox_id, target.member.id)
        names = source.member.hostname, target.member.hostname
        log.info("sandbox %s has moved from %s to %s", sandbox_id, *names)
        return target.member.id

    def _placed(self) -> dict[SandboxId, str]:
        with translated_errors("list the services"):
            return self.services.nodes_of_sandboxes()

    def _park(self, sandbox_id: SandboxId, node_id: str) -> None:
        with translated_errors("move a service", sandbox_id=sandbox_id):
            self.services.park(sandbox_id, node_id)

    def _target(self) -> Node:
        others = [each for each in self.nodes.linked.values() if not each.member.is_drained]
        if not others:
            raise EngineUnavailable("No node of the swarm takes sandboxes: all are drained.")
        return max(others, key=lambda each: each.available_bytes or 0)


def _write(file: IO[bytes], chunks: Iterator[bytes]) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)
