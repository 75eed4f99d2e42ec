"""The nodes of a swarm, and the links of the server to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.sandboxes import EngineUnavailable, NodeUnreachable
from chowder_local.core.tasks import logging_errors, run_every
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.swarm import tunnel, worker
from chowder_local.engine.swarm.image_copies import copy_missing_image
from chowder_local.engine.swarm.services import NodeEngine, image_label
from chowder_local.engine.swarm.worker import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    import docker

    from chowder_local.engine.specs import SandboxDefaults
    from chowder_local.engine.swarm.tunnel import Listeners, Streams
    from chowder_local.engine.threads import Threads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlace:
    """A running worker's container, and its address on the network that it shares with servers."""

    container_id: str
    address: str


@dataclass(frozen=True)
class Member:
    """A node; `worker` is None while none runs there."""

    id: str
    hostname: str
    is_up: bool
    is_drained: bool
    memory_bytes: int
    worker: WorkerPlace | None


def read_members(client: docker.DockerClient, service: str, network: str) -> list[Member]:
    """All nodes, with the tasks of the service of workers. Blocks; raises the SDK's errors."""
    # The SDK's types leave Swarm out.
    api: Any = client.api
    # The worker of a drained node still runs: its evacuation needs it, although Swarm is to end it.
    tasks = sorted(api.tasks({"service": service}), key=lambda task: str(task["CreatedAt"]))
    workers = {each["NodeID"]: place for each in tasks if (place := _place(each, network))}
    return [_member(each, workers) for each in api.nodes()]


def add_label(client: docker.DockerClient, node_id: str, name: str, value: str) -> None:
    """Adds a label to a node, unless it has it. Blocks; raises the SDK's errors."""
    node = client.nodes.get(node_id)
    spec = node.attrs["Spec"]
    if (spec.get("Labels") or {}).get(name) != value:
        node.update({**spec, "Labels": {**(spec.get("Labels") or {}), name: value}})


def _member(node: dict[str, Any], workers: dict[str, WorkerPlace]) -> Member:
    description = node.get("Description") or {}
    return Member(
        id=node["ID"],
        hostname=str(description.get("Hostname") or node["ID"]),
        is_up=node["Status"]["State"] == "ready",
        is_drained=node["Spec"]["Availability"] == "drain",
        memory_bytes=int((description.get("Resources") or {}).get("MemoryBytes") or 0),
        worker=workers.get(node["ID"]),
    )


def _place(task: dict[str, Any], network: str) -> WorkerPlace | None:
    if task["Status"]["State"] != "running":
        return None
    for attachment in task.get("NetworksAttachments") or ():
        if attachment["Network"]["Spec"]["Name"] == network:
            address, _, _ = attachment["Addresses"][0].partition("/")
            return WorkerPlace(task["Status"]["ContainerStatus"]["ContainerID"], address)
    return None


BEAT_INTERVAL_S = 2.0
BEAT_TIMEOUT_S = 6.0


@dataclass(frozen=True)
class DeployedStack:
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
class NodeLinks:
    """Makes links; the sockets of nodes' engines are in `folder`."""

    stack: DeployedStack
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
                watched = worker.ServerHello(
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
                        # Closing the engine would otherwise wait for calls that get no answer, as
                        # would clients of agents, and agents that call models.
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


async def beat(node: Node, watch: Streams, order: worker.Order = worker.Order.SERVE) -> None:
    """Shows the worker that the server is there. Raises EngineUnavailable if the worker is not."""
    reader, writer = watch
    try:
        async with asyncio.timeout(BEAT_TIMEOUT_S):
            writer.write(f"{order}\n".encode())
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
                # A worker sends nothing unasked, so this read ends only with the connection.
                await reader.read(1)
            raise EngineUnavailable("its worker has ended.")


LOOK_INTERVAL_S = 2.0
FIRST_NODE_TIMEOUT_S = 120.0
ALL_NODES_TIMEOUT_S = 15.0
"""At the start: a node takes longer only if it lacks the sandbox image."""
REPLACEMENT_S = 10.0
RELINK_TIMEOUT_S = 30.0
"""Swarm gives a node another worker at an update, and when it is back after it was cut off."""


@dataclass
class Nodes:
    """Keeps a link to each node that has a worker."""

    client: docker.DockerClient
    threads: Threads
    links: NodeLinks
    members: list[Member] = field(default_factory=list)
    linked: dict[str, Node] = field(default_factory=dict)
    """Nodes by their ids."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why others are not linked, or how much of the sandbox image they have."""
    _lost_s: dict[str, float] = field(default_factory=dict)
    """When links were lost that are not there again."""
    _tasks: dict[str, tuple[WorkerPlace, asyncio.Task[None]]] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, needs: NodeNeeds) -> None:
        """Looks for nodes at intervals, until cancelled."""
        look = partial(self.look, needs)
        try:
            with logging_errors("looking for nodes"):
                await look()
            await run_every(LOOK_INTERVAL_S, "looking for nodes", look)
        finally:
            await asyncio.gather(*map(self._end, list(self._tasks)))

    async def look(self, needs: NodeNeeds) -> None:
        """Links the nodes whose workers are new, and ends the links of those that are gone."""
        await self.refresh()
        wanted = {each.id: (each, each.worker) for each in self.members if each.worker}
        for node_id, (place, task) in list(self._tasks.items()):
            _, now = wanted.get(node_id, (None, None))
            if task.done() or now != place:
                await self._end(node_id)
        for node_id in wanted.keys() - self._tasks.keys():
            member, place = wanted[node_id]
            work = self._keep(member, place, needs)
            self._tasks[node_id] = place, asyncio.get_running_loop().create_task(work)

    async def refresh(self) -> None:
        """Reads the nodes as they are now, of which some may just have been drained."""
        self.members = await self.threads.run(self._read_members)
        for member in self.members:
            if member.worker is not None and (node := self.linked.get(member.id)) is not None:
                node.member = member

    def get(self, node_id: str) -> Node:
        """A node. Raises NodeUnreachable if it is not linked."""
        if (node := self.linked.get(node_id)) is None:
            raise NodeUnreachable(self.name(node_id))
        return node

    async def get_soon(self, node_id: str) -> Node:
        """A node, whose worker may just be replaced. Raises NodeUnreachable if it stays away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELINK_TIMEOUT_S), self._changed:
                await self._changed.wait_for(lambda: node_id in self.linked)
        return self.get(node_id)

    def has_link(self, worker_address: str) -> bool:
        """Whether a node is linked whose worker is there."""
        return any(node.place.address == worker_address for node in self.linked.values())

    def name(self, node_id: str) -> str:
        """The name of a node, or its id once it has left the swarm."""
        return next((each.hostname for each in self.members if each.id == node_id), node_id)

    async def wait_for_one(self) -> None:
        """Waits until any node is linked. Raises EngineUnavailable if none is in time."""
        try:
            async with asyncio.timeout(FIRST_NODE_TIMEOUT_S), self._changed:
                await self._changed.wait_for(lambda: self.linked)
        except TimeoutError:
            raise EngineUnavailable(
                "No node of the swarm has a worker that answers: see "
                f"'docker service ps {self.links.stack.worker_service}'."
            ) from None

    async def wait_for_all(self) -> None:
        """Waits until all nodes that have a worker are linked, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALL_NODES_TIMEOUT_S), self._changed:
                await self._changed.wait_for(lambda: self.members and not self.missing)

    @property
    def missing(self) -> list[Member]:
        """Nodes that are up and have a worker, but are not linked yet."""
        return [
            each
            for each in self.members
            if each.is_up and each.worker is not None and each.id not in self.linked
        ]

    @property
    def away(self) -> list[str]:
        """The ids of nodes whose links are lost, and not because their workers are replaced."""
        latest_s = time.monotonic() - REPLACEMENT_S
        return [node_id for node_id, lost_s in self._lost_s.items() if lost_s <= latest_s]

    def _read_members(self) -> list[Member]:
        stack = self.links.stack
        with translated_errors("list the nodes of the swarm"):
            return read_members(self.client, stack.worker_service, stack.network)

    async def bring_image(self, tag: str, source: EngineAddress) -> None:
        """Gives all nodes another OpenClaw release's image. Raises EngineUnavailable."""
        for node in list(self.linked.values()):
            dialled = partial(self.links.dial, node.place)
            await copy_missing_image(tag, source, node.address, dialled, log.debug)
            await self.threads.run(self._label, node.member.id, tag)

    def _label(self, node_id: str, tag: str) -> None:
        """Lets Swarm place sandboxes on a node that has their image."""
        with translated_errors("label a node"):
            image_id = str(self.client.images.get(tag).id)
            add_label(self.client, node_id, image_label(image_id), "there")

    async def _end(self, node_id: str) -> None:
        _, task = self._tasks.pop(node_id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, member: Member, place: WorkerPlace, needs: NodeNeeds) -> None:
        """Keeps one link until it breaks."""
        with logging_errors(f"node {member.hostname}"), self._noted(member):
            progress = partial(self.problems.__setitem__, member.id)
            async with self.links.linked(member, place, needs, progress) as (node, watch):
                await self.threads.run(self._label, member.id, needs.defaults.image)
                await self._set(member, node)
                try:
                    while True:
                        await rest(watch)
                        await beat(node, watch, await _order_for(node))
                finally:
                    await self._set(member, None)

    @contextlib.contextmanager
    def _noted(self, member: Member) -> Iterator[None]:
        """Logs why a node cannot be linked, once: it is tried every few seconds."""
        try:
            yield
        except ChowderError as failure:
            if self.problems.get(member.id) != str(failure):
                log.warning("node %s: %s", member.hostname, failure)
            self.problems[member.id] = str(failure)
        except asyncio.CancelledError:
            # The cancelled task was perhaps sending the node its image.
            self.problems.pop(member.id, None)
            raise

    async def _set(self, member: Member, node: Node | None) -> None:
        if node is None:
            self.linked.pop(member.id, None)
            self._lost_s[member.id] = time.monotonic()
            log.warning("node %s is lost", member.hostname)
        else:
            self.linked[member.id] = node
            self._lost_s.pop(member.id, None)
            self.problems.pop(member.id, None)
            log.info("node %s is linked", member.hostname)
        async with self._changed:
            self._changed.notify_all()


async def _order_for(node: Node) -> Order:
    """What a worker has to know of its node."""
    if not node.member.is_drained:
        return Order.SERVE
    return Order.STAY if await node.engine.volumes() else Order.LEAVE
