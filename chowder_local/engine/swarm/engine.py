"""The `Engine` protocol of instances on the nodes of a swarm: one service for each sandbox."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    DEFAULT_VERSION,
    EngineMemory,
    EngineNode,
    SandboxInfo,
    SandboxState,
    agent_capacity,
)
from chowder_local.core.errors.sandboxes import EngineUnavailable, SandboxMissing
from chowder_local.core.tasks import owned_tasks
from chowder_local.engine import specs
from chowder_local.engine.connection import open_client
from chowder_local.engine.docker import DockerEngine
from chowder_local.engine.error_translation import translated_errors
from chowder_local.engine.networks import SandboxNetwork, SandboxNetworks
from chowder_local.engine.self_container import address_on
from chowder_local.engine.swarm.evacuation import NodeEvacuation, NodeJobs
from chowder_local.engine.swarm.forwards import LOOPBACK, Gateways, RelayIngress
from chowder_local.engine.swarm.nodes import DeployedStack, Node, NodeLinks, NodeNeeds, Nodes
from chowder_local.engine.swarm.services import SwarmServices, service_spec
from chowder_local.engine.swarm.tunnel import Listeners
from chowder_local.engine.threads import Threads

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from datetime import datetime
    from typing import TypeVar

    import docker

    from chowder_local.core.domain import SandboxId, SandboxSpec, SandboxUsage
    from chowder_local.engine.connection import EngineAddress
    from chowder_local.engine.container_exec import DockerProcess
    from chowder_local.engine.engine_facts import EngineFacts

    Result = TypeVar("Result")

# What differs between nodes is left out: each worker knows the networks of its own.
NETWORKS = SandboxNetworks(
    SandboxNetwork("open", LOOPBACK, None),
    SandboxNetwork("closed", LOOPBACK, None),
    joined_by="the node's worker",
)


class SwarmEngine:
    """One server's view of a swarm; `instances.engine_protocol.Engine` documents the methods.

    `manager` is the engine of the server's own node, which has the images.
    """

    def __init__(
        self,
        address: EngineAddress,
        client: docker.DockerClient,
        threads: Threads,
        manager: DockerEngine,
        nodes: Nodes,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._address = address
        self._client = client
        self._threads = threads
        self._manager = manager
        self._nodes = nodes
        self._tasks = tasks
        secret, listeners = nodes.links.stack.secret, nodes.links.listeners
        self._services = SwarmServices(client, nodes.links.store_id)
        self._gateways = Gateways(listeners, secret, nodes.has_link)
        self._door = RelayIngress(listeners, secret)
        self._defaults: specs.SandboxDefaults | None = None
        self._node_ids: dict[SandboxId, str] = {}
        self._moves = NodeEvacuation(nodes, self._services, self._node_ids)
        self.volume_jobs = NodeJobs(self._engine_of)
        """Runs programs on the volumes of paused and exited sandboxes."""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: EngineAddress,
        store_id: str,
        deployed: DeployedStack,
        *,
        timeout_s: float,
        thread_count: int,
    ) -> AsyncIterator[Self]:
        """The engine of a deployed stack. Raises EngineSilent if its manager does not answer."""
        async with AsyncExitStack() as stack:
            manager = await stack.enter_async_context(
                DockerEngine.connect(
                    address, store_id, timeout_s=timeout_s, thread_count=thread_count
                )
            )
            threads = stack.enter_context(Threads(thread_count, "swarm"))
            client = await threads.run(open_client, address, timeout_s, thread_count)
            stack.enter_context(closing(client))
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="chowder-nodes-")))
            listeners = await stack.enter_async_context(Listeners.opened())
            links = NodeLinks(deployed, store_id, folder, listeners, timeout_s, thread_count)
            nodes = Nodes(client, threads, links)
            tasks = await stack.enter_async_context(owned_tasks())
            yield cls(address, client, threads, manager, nodes, tasks)

    async def prepare(self, defaults: specs.SandboxDefaults) -> SandboxNetworks:
        """Checks the image; from `open_relay` on, sandboxes can be booted.

        Raises ImageMissing if the manager's engine lacks the image.
        """
        await self._manager.prepare_images(defaults, NETWORKS)
        self._defaults = defaults
        return NETWORKS

    async def open_relay(self, port: int) -> None:
        """Lets sandboxes on all nodes call the relay, which listens at the loopback's `port`.

        Called once, after `prepare`.
        """
        if self._defaults is None:
            raise EngineUnavailable("The engine is not prepared yet.")
        find = partial(address_on, self._client, self._nodes.links.stack.network)
        address = await self._run("find the server's own container", find)
        door_port = await self._door.open(address, port)
        needs = NodeNeeds(self._address, self._defaults, port, door_port)
        self._tasks.create_task(self._nodes.run(needs))
        self._tasks.create_task(self._moves.run())
        # The reconciler's first round would otherwise find some agents unreachable.
        await self._nodes.wait_for_all()

    @property
    def fingerprint(self) -> str:
        return self._manager.fingerprint

    @property
    def failure_count(self) -> int:
        nodes = self._nodes.linked.values()
        return self._manager.failure_count + sum(each.engine.failure_count for each in nodes)

    async def version(self) -> str:
        return await self._manager.version()

    async def facts(self, address: EngineAddress) -> EngineFacts:
        """The facts of the server's own node."""
        return await self._manager.facts(address)

    async def check_image(self, version: str = DEFAULT_VERSION) -> None:
        await self._manager.check_image(version)

    async def file_of_image(self, path: str, version: str = DEFAULT_VERSION) -> bytes | None:
        return await self._manager.file_of_image(path, version)

    async def boot(self, spec: SandboxSpec) -> SandboxInfo:
        await self._nodes.wait_for_one()
        template = await self._manager.templates.template(spec.openclaw_version)
        image_id = await self._image_id(template.image)
        if self._defaults is not None and template.image != self._defaults.image:
            await self._nodes.bring_image(template.image, self._address)
        node_id = await self._node_id_or_none(spec.id)
        if node_id is not None:
            node_id = await self._ensure_place(spec.id, self._nodes.get(node_id))
        options = specs.container_options(spec, template)
        service = service_spec(options, image_id, node_id, self._nodes.away)
        start = partial(self._services.start, service)
        placed = await self._run(f"boot sandbox {spec.id}", start)
        self._node_ids[spec.id] = placed.node_id
        node = await self._nodes.get_soon(placed.node_id)
        return await self._reached(node, await node.engine.admit(spec, placed.container_id))

    async def inspect(self, sandbox_id: SandboxId) -> SandboxInfo:
        if (node_id := await self._node_id_or_none(sandbox_id)) is None:
            return SandboxInfo(sandbox_id, SandboxState.MISSING)
        node = self._nodes.get(node_id)
        return await self._reached(node, await node.engine.inspect(sandbox_id))

    async def sandboxes(self) -> dict[SandboxId, SandboxInfo]:
        """The sandboxes of all linked nodes; those of other nodes are unreachable, not missing."""
        lists = await self._lists(lambda engine: engine.sandboxes())
        # Swarm's own records decide: a move that was interrupted has left files on two nodes.
        placed = await self._run("list the services", self._services.nodes_of_sandboxes)
        self._node_ids |= placed
        listed_ids = {node.member.id for node, _ in lists}
        found = {
            each: SandboxInfo(each, SandboxState.UNREACHABLE)
            for each, node_id in placed.items()
            if node_id not in listed_ids
        }
        for node, listed in lists:
            for sandbox_id, info in listed.items():
                if self._node_ids.setdefault(sandbox_id, node.member.id) == node.member.id:
                    found[sandbox_id] = await self._reached(node, info)
        return found

    async def volumes(self) -> set[SandboxId]:
        lists = await self._lists(lambda engine: engine.volumes())
        for node, listed in lists:
            for sandbox_id in listed:
                self._node_ids.setdefault(sandbox_id, node.member.id)
        return {sandbox_id for _, listed in lists for sandbox_id in listed}

    async def _lists(
        self, call: Callable[[DockerEngine], Awaitable[Result]]
    ) -> list[tuple[Node, Result]]:
        """What the engines of all linked nodes answer, except of those that are lost meanwhile.

        Raises EngineUnavailable if that of a node that is still linked fails.
        """
        nodes = list(self._nodes.linked.values())
        answers = await asyncio.gather(
            *(call(node.engine) for node in nodes), return_exceptions=True
        )
        lists = []
        for node, answer in zip(nodes, answers, strict=True):
            if not isinstance(answer, BaseException):
                lists.append((node, answer))
            elif self._nodes.linked.get(node.member.id) is node:
                raise answer
        return lists

    async def pause(self, sandbox_id: SandboxId) -> None:
        await (await self._engine_of(sandbox_id)).pause(sandbox_id)

    async def unpause(self, sandbox_id: SandboxId) -> None:
        await (await self._engine_of(sandbox_id)).unpause(sandbox_id)

    async def promote(self, sandbox_id: SandboxId) -> None:
        await (await self._engine_of(sandbox_id)).promote(sandbox_id)

    async def release(self, sandbox_id: SandboxId) -> None:
        await (await self._engine_of(sandbox_id)).release(sandbox_id)

    async def remove(self, sandbox_id: SandboxId) -> None:
        node_id = await self._node_id_or_none(sandbox_id)
        # The service is removed in any case: Swarm could not place it, or its node is away and
        # could start it later.
        await self._run("remove", partial(self._services.remove, sandbox_id))
        if node_id is not None:
            node = self._nodes.get(node_id)
            await node.engine.discard(sandbox_id)
            await node.engine.remove(sandbox_id)
        self._gateways.forget(sandbox_id)
        self._node_ids.pop(sandbox_id, None)

    async def memory(self) -> EngineMemory:
        """The sum of the nodes that take sandboxes; in total, what holds whole ones."""
        nodes = [each for each in self._nodes.linked.values() if not each.member.is_drained]
        available = [each.available_bytes or 0 for each in nodes]
        places = sum(agent_capacity(each.member.memory_bytes) for each in nodes)
        total = places * AGENT_MEMORY_BYTES
        return EngineMemory(total, sum(available) if nodes else None)

    def nodes(self) -> list[EngineNode]:
        return [
            EngineNode(
                member.hostname,
                member.id in self._nodes.linked,
                member.is_drained,
                sum(node_id == member.id for node_id in self._node_ids.values()),
                member.memory_bytes,
                node.available_bytes if (node := self._nodes.linked.get(member.id)) else None,
                self._nodes.problems.get(member.id),
            )
            for member in self._nodes.members
        ]

    def node_of(self, sandbox_id: SandboxId) -> str | None:
        node_id = self._node_ids.get(sandbox_id)
        return None if node_id is None else self._nodes.name(node_id)

    async def usage(self, sandbox_ids: Collection[SandboxId]) -> dict[SandboxId, SandboxUsage]:
        by_node: dict[str, list[SandboxId]] = {}
        for sandbox_id in sandbox_ids:
            if (node_id := await self._node_id_or_none(sandbox_id)) in self._nodes.linked:
                by_node.setdefault(str(node_id), []).append(sandbox_id)
        nodes = {node_id: self._nodes.get(node_id) for node_id in by_node}
        parts = await asyncio.gather(
            *(node.engine.usage(by_node[node_id]) for node_id, node in nodes.items())
        )
        return {sandbox_id: usage for part in parts for sandbox_id, usage in part.items()}

    async def disk_bytes(self, sandbox_id: SandboxId, limit: int) -> int:
        return await (await self._engine_of(sandbox_id)).disk_bytes(sandbox_id, limit)

    async def disk_free_bytes(self, sandbox_id: SandboxId) -> int:
        return await (await self._engine_of(sandbox_id)).disk_free_bytes(sandbox_id)

    async def processes(self, sandbox_id: SandboxId) -> list[str]:
        return await (await self._engine_of(sandbox_id)).processes(sandbox_id)

    async def log_tail(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> str:
        if await self._node_id_or_none(sandbox_id) is None:
            return ""
        return await (await self._engine_of(sandbox_id)).log_tail(sandbox_id, line_count, since)

    async def follow_log(
        self, sandbox_id: SandboxId, line_count: int, since: datetime | None = None
    ) -> AsyncIterator[bytes]:
        engine = await self._engine_of(sandbox_id)
        async for chunk in engine.follow_log(sandbox_id, line_count, since):
            yield chunk

    async def unpack(self, sandbox_id: SandboxId, folder: str, archive: Iterable[bytes]) -> None:
        """Unpacks a tar in a folder of the sandbox, with root's rights. Raises SandboxMissing."""
        await (await self._engine_of(sandbox_id)).unpack(sandbox_id, folder, archive)

    @asynccontextmanager
    async def process(
        self, sandbox_id: SandboxId, command: Sequence[str]
    ) -> AsyncIterator[DockerProcess]:
        """Runs a program in the sandbox as the agent's user; see `Processes` for its rules."""
        engine = await self._engine_of(sandbox_id)
        async with engine.process(sandbox_id, command) as process:
            yield process

    async def read_home(
        self, sandbox_id: SandboxId, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        return await (await self._engine_of(sandbox_id)).read_home(sandbox_id, work)

    async def rework_home(
        self, program: str, source: Path, work: Callable[[Iterator[bytes]], Result]
    ) -> Result:
        return await self._manager.rework_home(program, source, work)

    async def examine_home(
        self, program: str, source: Path, files: Mapping[str, bytes], version: str
    ) -> bytes:
        return await self._manager.examine_home(program, source, files, version)

    async def _engine_of(self, sandbox_id: SandboxId) -> DockerEngine:
        """The engine of a sandbox's node. Raises EngineUnavailable, SandboxMissing."""
        node_id = await self._node_id_or_none(sandbox_id)
        if node_id is None:
            raise SandboxMissing(f"Sandbox {sandbox_id} is gone from the swarm.")
        return self._nodes.get(node_id).engine

    async def _node_id_or_none(self, sandbox_id: SandboxId) -> str | None:
        """The node that has a sandbox's files, by Swarm's own records; None for a new sandbox."""
        if sandbox_id not in self._node_ids:
            await self.sandboxes()
            await self.volumes()
        return self._node_ids.get(sandbox_id)

    async def _ensure_place(self, sandbox_id: SandboxId, node: Node) -> str:
        """The node where a sandbox with files may boot now; they leave a drained one."""
        # On a node that was drained since the last look, it would wait a minute for its place.
        await self._nodes.refresh()
        if node.member.is_drained:
            return await self._moves.move(sandbox_id, node)
        # The service ends with the container that it had.
        await self._discard(sandbox_id, node)
        return node.member.id

    async def _discard(self, sandbox_id: SandboxId, node: Node) -> None:
        await self._run("remove", partial(self._services.remove, sandbox_id))
        await node.engine.discard(sandbox_id)

    async def _reached(self, node: Node, info: SandboxInfo) -> SandboxInfo:
        """The info with a URL at which this machine reaches the gateway."""
        if info.gateway_url is None:
            return info
        url = await self._gateways.local_url(info.id, node.place.address, info.gateway_url)
        return replace(info, gateway_url=url)

    async def _image_id(self, tag: str) -> str:
        def call() -> str:
            return str(self._client.images.get(tag).id)

        return await self._run("look up the sandbox image", call, image=tag)

    async def _run(
        self, doing: str, call: Callable[[], Result], *, image: str | None = None
    ) -> Result:
        def translated() -> Result:
            with translated_errors(doing, image=image):
                return call()

        return await self._threads.run(translated)
