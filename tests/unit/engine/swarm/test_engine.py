"""Which node each call goes to. Engines and Swarm are scripted; end-to-end tests have real ones."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

import pytest
from docker.errors import NotFound

from chowder_local.core.domain import (
    AGENT_MEMORY_BYTES,
    SandboxId,
    SandboxInfo,
    SandboxSpec,
    SandboxState,
)
from chowder_local.core.errors.sandboxes import (
    EngineUnavailable,
    NodeUnreachable,
    SandboxMissing,
)
from chowder_local.core.tasks import gather_both, owned_tasks
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.specs import Limits, SandboxTemplate
from chowder_local.engine.swarm import nodes
from chowder_local.engine.swarm.engine import NETWORKS, SwarmEngine
from chowder_local.engine.swarm.evacuation import NodeEvacuation
from chowder_local.engine.swarm.nodes import (
    DeployedStack,
    Node,
    NodeLinks,
    Nodes,
)
from chowder_local.engine.swarm.services import NODE_LABEL, SwarmServices
from chowder_local.engine.swarm.tunnel import Listeners, TargetRefused
from chowder_local.engine.threads import Threads
from tests.scripted.engine import ScriptedEngine
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import docker

    from chowder_local.engine.docker import DockerEngine
    from chowder_local.engine.swarm.nodes import WorkerPlace
    from chowder_local.engine.swarm.services import NodeEngine

pytestmark = pytest.mark.anyio

ONE, OTHER = SandboxId("chowder-1"), SandboxId("chowder-2")
ADDRESS = EngineAddress("unix:///nowhere", "the test")


class ScriptedNode(ScriptedEngine):
    """A node's engine, on which Swarm has started what is admitted."""

    async def admit(self, spec: SandboxSpec, container_id: str) -> SandboxInfo:
        assert container_id == f"container of {spec.id}"
        return await self.boot(spec)

    async def discard(self, sandbox_id: SandboxId) -> None:
        self.containers.pop(sandbox_id, None)

    async def put_volume(self, sandbox_id: SandboxId, tar: IO[bytes]) -> None:
        self.make_volume(sandbox_id)
        self.put_home(sandbox_id, tar.read())

    async def usage(self, sandbox_ids: Any) -> dict[SandboxId, Any]:
        return dict.fromkeys(sandbox_ids, self)


class ScriptedSwarm:
    """The part of a manager's API that the server uses; all services go to `place`."""

    def __init__(self) -> None:
        self.node_ids: list[str] = []
        self.drained: set[str] = set()
        self.place = "n1"
        self.problem: str | None = None
        self.specs: dict[str, dict[str, Any]] = {}

    def create_service(self, task: Any, name: str, labels: Any, mode: Any) -> dict[str, Any]:
        self.specs[name] = {"Name": name, "TaskTemplate": task, "Labels": labels, "Mode": mode}
        return {"ID": name}

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "ID": node_id,
                "Description": {
                    "Hostname": f"host-{node_id}",
                    "Resources": {"MemoryBytes": 5 * AGENT_MEMORY_BYTES // 2},
                },
                "Status": {"State": "ready"},
                "Spec": {"Availability": "drain" if node_id in self.drained else "active"},
            }
            for node_id in self.node_ids
        ]

    def tasks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        if filters["service"] == "chowder_worker":
            network = {"Spec": {"Name": "chowder_control"}}
            status = {"State": "running", "ContainerStatus": {"ContainerID": "worker"}}
            reached = [{"Network": network, "Addresses": ["127.0.0.1/8"]}]
            return [
                {"NodeID": node_id, "CreatedAt": "", "Status": status}
                | {"NetworksAttachments": reached}
                for node_id in self.node_ids
            ]
        if self.problem is not None:
            return [{"Status": {"State": "pending", "Err": self.problem}}]
        container = {"ContainerID": f"container of {filters['service']}"}
        status = {"State": "running", "ContainerStatus": container}
        return [{"Status": status, "NodeID": self.place}]

    def inspect_service(self, name: str) -> dict[str, Any]:
        if name not in self.specs:
            raise NotFound(name)
        return {"ID": name, "Spec": self.specs[name], "Version": {"Index": 1}}

    def update_service(self, service: str, version: int, task: Any, **spec: Any) -> None:
        assert version == 1
        self.specs[service] |= {
            "TaskTemplate": task,
            "Labels": spec["labels"],
            "Mode": spec["mode"],
        }

    def services(self, _: Any) -> list[dict[str, Any]]:
        return [{"Spec": spec} for spec in self.specs.values()]

    def remove_service(self, name: str) -> None:
        del self.specs[name]


class World:
    """An engine with two nodes, n1 and n2."""

    def __init__(
        self, engine: SwarmEngine, swarm: ScriptedSwarm, nodes: Nodes, folder: Path
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.swarm = swarm
        self.nodes = nodes

    async def link(self, node_id: str) -> None:
        self.swarm.node_ids.append(node_id)
        await self.nodes.refresh()
        member = self.nodes.members[-1]
        assert member.worker is not None
        scripted = cast("NodeEngine", ScriptedNode(self.folder / node_id))
        self.nodes.linked[node_id] = Node(
            member, member.worker, scripted, ADDRESS, available_bytes=3
        )

    async def drain(self, node_id: str) -> NodeEvacuation:
        """Drains a node, and lets the server look; returns what then empties it."""
        self.swarm.drained.add(node_id)
        await self.nodes.refresh()
        services = SwarmServices(self.nodes.client, "store")
        return NodeEvacuation(self.nodes, services, self.engine._node_ids)

    def node(self, node_id: str) -> ScriptedNode:
        return cast("ScriptedNode", self.nodes.linked[node_id].engine)

    def constraints(self, sandbox_id: SandboxId) -> list[str]:
        task = self.swarm.specs[sandbox_id]["TaskTemplate"]
        return cast("list[str]", task["Placement"]["Constraints"])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    swarm = ScriptedSwarm()
    image = SimpleNamespace(get=lambda _: SimpleNamespace(id="sha256:" + "a" * 64))
    client = cast("docker.DockerClient", SimpleNamespace(api=swarm, images=image))
    template = SandboxTemplate("store", "image:1", NETWORKS, Limits(2048, 2.0, 512))

    async def own_template(_: str) -> SandboxTemplate:
        return template

    manager = SimpleNamespace(templates=SimpleNamespace(template=own_template))
    async with Listeners.opened() as listeners, owned_tasks() as tasks:
        with Threads(2, "swarm") as threads:
            links = NodeLinks(
                DeployedStack("chowder", "s" * 64), "store", tmp_path, listeners, 5.0, 2
            )
            nodes = Nodes(client, threads, links)
            own = cast("DockerEngine", manager)
            engine = SwarmEngine(ADDRESS, client, threads, own, nodes, tasks)
            world = World(engine, swarm, nodes, tmp_path)
            await world.link("n1")
            await world.link("n2")
            yield world


async def test_a_new_sandbox_stays_where_swarm_has_put_it(world: World) -> None:
    world.swarm.place = "n2"
    info = await world.engine.boot(SandboxSpec(ONE))
    assert info.state is SandboxState.RUNNING
    assert info.gateway_url is not None
    assert info.gateway_url.startswith("http://127.")
    assert world.constraints(ONE) == ["node.id==n2"]
    assert world.swarm.specs[ONE]["Labels"][NODE_LABEL] == "n2"
    assert (await world.engine.sandboxes())[ONE] == info == await world.engine.inspect(ONE)
    await world.engine.pause(ONE)
    assert world.node("n2").state(ONE) is SandboxState.PAUSED
    await world.engine.boot(SandboxSpec(ONE))
    assert world.constraints(ONE) == ["node.id==n2"]
    assert set(await world.engine.usage([ONE, OTHER])) == {ONE}


async def test_one_that_swarm_puts_on_a_node_whose_worker_is_just_replaced_waits_for_that(
    world: World,
) -> None:
    lost = world.nodes.linked.pop("n1")
    booting = asyncio.create_task(world.engine.boot(SandboxSpec(ONE)))
    await eventually(lambda: ONE in world.swarm.specs, "Swarm has placed it")
    await world.nodes._set(lost.member, lost)
    assert (await booting).state is SandboxState.RUNNING


async def test_one_that_swarm_puts_on_a_node_that_stays_away_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "RELINK_TIMEOUT_S", 0.01)
    del world.nodes.linked["n1"]
    with pytest.raises(NodeUnreachable, match="host-n1 does not answer"):
        await world.engine.boot(SandboxSpec(ONE))


async def test_a_removed_one_is_gone_from_swarm_and_from_its_node(world: World) -> None:
    await world.engine.boot(SandboxSpec(ONE))
    await world.engine.remove(ONE)
    assert (world.swarm.specs, world.node("n1").containers) == ({}, {})
    assert (await world.engine.inspect(ONE)).state is SandboxState.MISSING
    with pytest.raises(SandboxMissing):
        await world.engine.pause(ONE)


async def test_one_on_a_node_that_is_away_is_not_started_there_again(world: World) -> None:
    await world.engine.boot(SandboxSpec(ONE))
    assert world.engine.node_of(ONE) == "host-n1"
    gone = world.nodes.linked.pop("n1")
    with pytest.raises(NodeUnreachable, match="host-n1"):
        await world.engine.remove(ONE)
    assert world.swarm.specs == {}
    # Once the node is back, its files are found and removed.
    world.nodes.linked["n1"] = gone
    assert set(await world.engine.sandboxes()) == {ONE}
    await world.engine.remove(ONE)
    assert (world.node("n1").containers, world.engine.node_of(ONE)) == ({}, None)


async def test_one_that_swarm_cannot_place_says_why(world: World) -> None:
    world.swarm.problem = "insufficient resources on 2 nodes"
    with pytest.raises(EngineUnavailable, match="No node has room"):
        await world.engine.boot(SandboxSpec(ONE))
    assert world.swarm.specs == {}


async def test_one_on_a_lost_node_is_unreachable_which_is_not_missing(world: World) -> None:
    world.swarm.place = "n2"
    await world.engine.boot(SandboxSpec(ONE))
    del world.nodes.linked["n2"]
    assert (await world.engine.sandboxes())[ONE].state is SandboxState.UNREACHABLE
    for call in (world.engine.inspect(ONE), world.engine.boot(SandboxSpec(ONE))):
        with pytest.raises(EngineUnavailable, match="The node host-n2 does not answer"):
            await call
    # Its service is as it was: a second one could run beside it.
    assert world.constraints(ONE) == ["node.id==n2"]


async def test_a_node_that_is_lost_during_a_look_is_as_one_that_was_lost_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.swarm.place = "n2"
    await world.engine.boot(SandboxSpec(ONE))
    node = world.node("n2")
    node.failing["sandboxes"] = EngineUnavailable("It hangs.")
    with pytest.raises(EngineUnavailable, match="It hangs"):
        await world.engine.sandboxes()

    async def break_off() -> None:
        del world.nodes.linked["n2"]
        raise EngineUnavailable("It breaks off.")

    monkeypatch.setattr(node, "sandboxes", break_off)
    assert (await world.engine.sandboxes())[ONE].state is SandboxState.UNREACHABLE


async def test_a_drained_nodes_agents_move_to_another_one_with_their_files(world: World) -> None:
    await world.engine.boot(SandboxSpec(ONE))
    moves = await world.drain("n1")
    await moves.empty()
    # Swarm ends it first.
    assert world.node("n1").volume_ids == {ONE}
    await world.node("n1").release(ONE)
    await moves.empty()
    assert (world.node("n1").volume_ids, world.node("n2").volume_ids) == (set(), {ONE})
    assert world.constraints(ONE) == ["node.id==n2"]
    assert world.swarm.specs[ONE]["Mode"] == {"Replicated": {"Replicas": 0}}
    world.swarm.place = "n2"
    assert (await world.engine.boot(SandboxSpec(ONE))).state is SandboxState.RUNNING
    assert world.swarm.specs[ONE]["Mode"] == {"Replicated": {"Replicas": 1}}


async def test_an_agent_on_a_drained_node_ends_once_its_gateway_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem: EngineUnavailable | None = None
    closed: list[str] = []

    async def dial(_: NodeLinks, __: WorkerPlace, target: str) -> Any:
        if problem is not None:
            raise problem
        return None, SimpleNamespace(close=lambda: closed.append(target))

    monkeypatch.setattr(NodeLinks, "dial", dial)
    await world.engine.boot(SandboxSpec(ONE))
    moves = await world.drain("n2")
    await moves.end_closed()
    assert closed == []
    await world.drain("n1")
    await moves.end_closed()
    problem = EngineUnavailable("The node does not answer.")
    await moves.end_closed()
    # Its turns go on.
    assert (world.node("n1").state(ONE), len(closed)) == (SandboxState.RUNNING, 1)
    problem = TargetRefused("Connection refused")
    await moves.end_closed()
    assert world.node("n1").state(ONE) is SandboxState.MISSING
    assert world.node("n1").volume_ids == {ONE}


async def test_after_an_interrupted_move_the_copy_in_swarms_records_is_the_one_that_stays(
    world: World,
) -> None:
    await world.engine.boot(SandboxSpec(ONE))
    moves = await world.drain("n1")
    await world.node("n1").release(ONE)
    # All was copied and recorded, but the server ended before it removed the source.
    world.node("n2").make_volume(ONE)
    (world.node("n2").home(ONE) / "whole").touch()
    SwarmServices(world.nodes.client, "store").park(ONE, "n2")
    assert await world.engine.volumes() == {ONE}
    world.swarm.place = "n2"
    await world.engine.boot(SandboxSpec(ONE))
    await moves.empty()
    assert (world.node("n1").volume_ids, world.node("n2").volume_ids) == (set(), {ONE})
    assert (await world.engine.sandboxes())[ONE].state is SandboxState.RUNNING
    assert (world.node("n2").home(ONE) / "whole").exists()


async def test_two_looks_at_a_new_sandbox_at_once_find_the_same_address(world: World) -> None:
    world.node("n1").put(ONE, SandboxState.RUNNING)
    world.node("n1").volume_ids.add(ONE)
    await world.engine.volumes()
    first, second = await gather_both(world.engine.inspect(ONE), world.engine.inspect(ONE))
    assert first.gateway_url == second.gateway_url is not None


async def test_one_that_boots_on_a_node_drained_since_the_last_look_moves_first(
    world: World,
) -> None:
    await world.engine.boot(SandboxSpec(ONE))
    world.swarm.drained.add("n1")
    world.swarm.place = "n2"
    await world.engine.boot(SandboxSpec(ONE))
    assert (world.node("n1").volume_ids, world.node("n2").volume_ids) == (set(), {ONE})
    world.swarm.drained.add("n2")
    with pytest.raises(EngineUnavailable, match="all are drained"):
        await world.engine.boot(SandboxSpec(ONE))
    assert world.node("n2").volume_ids == {ONE}


async def test_a_home_without_a_container_is_found_by_its_volume(world: World) -> None:
    world.node("n2").volume_ids.add(OTHER)
    assert await world.engine.volumes() == {OTHER}
    world.swarm.place = "n2"
    await world.engine.boot(SandboxSpec(OTHER))
    assert world.constraints(OTHER) == ["node.id==n2"]


async def test_memory_is_that_of_all_nodes_for_whole_sandboxes(world: World) -> None:
    memory = await world.engine.memory()
    assert (memory.total_bytes, memory.available_bytes) == (4 * AGENT_MEMORY_BYTES, 6)
