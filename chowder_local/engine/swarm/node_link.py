"""The link to one node: its engine, through its worker, and the watch that the worker expects."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.swarm import tunnel, worker
from chowder_local.engine.swarm.image_copies import copy_missing_image
from chowder_local.engine.swarm.node_engine import NodeEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from chowder_local.engine.specs import SandboxDefaults
    from chowder_local.engine.swarm.listeners import Listeners
    from chowder_local.engine.swarm.members import Member, WorkerPlace
    from chowder_local.engine.swarm.tunnel import Streams

BEAT_INTERVAL_S = 2.0
BEAT_TIMEOUT_S = 6.0


@dataclass(frozen=True)
class Stack:
    """A deployed stack: the names of its parts begin with `name`, and they share a secret."""

    name: str
    secret: str

    @property
    def worker_service(self) -> str:
        return f"{self.name}_worker"

    @property
    def network(self) -> str:
        return f"{self.name}_control"


@dataclass(frozen=True)
class NodeNeeds:
    """What the server gives its nodes: the sandbox image of its own engine, and its relay.

    Model calls come to `relay_port` on sandboxes' networks, and through `door_port` to the server.
    """

    source: EngineAddress
    defaults: SandboxDefaults
    relay_port: int
    door_port: int


@dataclass
class Node:
    """A linked node."""

    member: Member
    place: WorkerPlace
    engine: NodeEngine
    address: EngineAddress
    """A socket of this machine that leads to the engine."""
    available_bytes: int | None = None


@dataclass(frozen=True)
class Links:
    """Makes links; the sockets of nodes' engines are in `folder`."""

    stack: Stack
    store_id: str
    folder: Path
    listeners: Listeners
    timeout_s: float
    thread_count: int

    @asynccontextmanager
    async def linked(
        self, member: Member, place: WorkerPlace, needs: NodeNeeds, progress: Callable[[str], None]
    ) -> AsyncIterator[tuple[Node, Streams]]:
        """A node with the sandbox image and networks, and the stream for `beat`.

        `progress` hears how much of the image the node has.

        Raises EngineUnavailable, and ImageMissing if the server's own engine lacks the image.
        """
        async with self._socket(member, place) as (path, address):
            tag = needs.defaults.image
            await copy_missing_image(
                tag, needs.source, address, partial(self.dial, place), progress
            )
            async with NodeEngine.connect(
                address,
                self.store_id,
                timeout_s=self.timeout_s,
                thread_count=self.thread_count,
            ) as engine:
                networks = await engine.prepare_node(needs.defaults, place.container_id)
                await engine.open_relay(needs.relay_port)
                watched = worker.Watched(
                    self.store_id,
                    tuple(networks.relay_binds),
                    needs.relay_port,
                    needs.door_port,
                )
                watch = await self.dial(place, f"watch {json.dumps(asdict(watched))}")
                with closing(watch[1]):
                    node = Node(member, place, engine, address)
                    await beat(node, watch)
                    try:
                        yield node, watch
                    finally:
                        # Or closing the engine would wait for calls that have no answer, and so
                        # would clients for agents, and agents for models.
                        self.listeners.end_at_path(path)
                        self.listeners.end_connections(place.address)

    @asynccontextmanager
    async def _socket(
        self, member: Member, place: WorkerPlace
    ) -> AsyncIterator[tuple[Path, EngineAddress]]:
        """A Unix socket of this machine that leads to the node's engine."""
        path = self.folder / f"{member.id[:12]}.sock"
        dialled = partial(self.dial, place, "engine")
        await self.listeners.listen_at_path(path, partial(tunnel.forward, dialled=dialled))
        try:
            yield path, EngineAddress(f"unix://{path}", f"the node {member.hostname}")
        finally:
            self.listeners.end_at_path(path)

    async def dial(self, place: WorkerPlace, target: str) -> Streams:
        """A stream to a target, through a node's worker. Raises EngineUnavailable."""
        return await tunnel.dial(place.address, worker.PORT, self.stack.secret, target)


async def beat(node: Node, watch: Streams, word: worker.Word = worker.Word.SERVE) -> None:
    """Shows the worker that the server is there. Raises EngineUnavailable if the worker is not."""
    reader, writer = watch
    try:
        async with asyncio.timeout(BEAT_TIMEOUT_S):
            writer.write(f"{word}\n".encode())
            await writer.drain()
            node.available_bytes = int(await reader.readline())
    except (OSError, ValueError, TimeoutError) as failure:
        raise EngineUnavailable("its worker does not answer any more.") from failure


async def rest(watch: Streams) -> None:
    """Returns when the next beat is due. Raises EngineUnavailable at once if the worker ends."""
    reader, _ = watch
    with suppress(TimeoutError):
        async with asyncio.timeout(BEAT_INTERVAL_S):
            with suppress(OSError):
                # It says nothing but its answers to beats.
                await reader.read(1)
            raise EngineUnavailable("its worker has ended.")
