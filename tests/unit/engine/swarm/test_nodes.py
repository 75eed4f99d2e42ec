"""Which nodes are linked. Swarm is scripted; a real worker answers at a real socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.tasks import owned_tasks
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.swarm import nodes as module
from chowder_local.engine.swarm import tunnel
from chowder_local.engine.swarm.nodes import DeployedStack, Node, Nodes
from chowder_local.engine.swarm.tunnel import Listeners
from chowder_local.engine.swarm.worker import ServerHello, Worker
from chowder_local.engine.threads import Threads
from tests.scripted.engine import ScriptedEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import docker

    from chowder_local.engine.swarm.nodes import Member, NodeLinks, NodeNeeds, WorkerPlace
    from chowder_local.engine.swarm.services import NodeEngine
    from chowder_local.engine.swarm.tunnel import Streams

pytestmark = pytest.mark.anyio

SECRET = "s" * 64
HOST = "127.0.0.1"
ADDRESS = EngineAddress("unix:///nowhere", "the test")
NEEDS = cast("NodeNeeds", SimpleNamespace(defaults=SimpleNamespace(image="image:1")))


@dataclass
class ScriptedSwarm:
    """A manager of nodes n1, which has a worker, and n2, which has none."""

    container: str = "c1"
    labels: dict[str, str] = field(default_factory=dict)
    availability: str = "active"

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "ID": each,
                "Description": {"Hostname": f"host-{each}", "Resources": {"MemoryBytes": 8}},
                "Status": {"State": "ready"},
                "Spec": {"Availability": self.availability},
            }
            for each in ("n1", "n2")
        ]

    def tasks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters == {"service": "chowder_worker"}
        network = {"Spec": {"Name": "chowder_control"}}
        return [
            {
                "NodeID": "n1",
                "CreatedAt": f"2026-11-29T0{number}",
                "Status": {"State": state, "ContainerStatus": {"ContainerID": self.container}},
                "NetworksAttachments": [{"Network": network, "Addresses": [f"{HOST}/24"]}],
            }
            for number, state in enumerate(["shutdown", "running"])
        ]

    def get(self, _: str) -> Any:
        """A node for the SDK, whose labels can be set."""
        spec = {"Availability": "active", "Labels": self.labels}

        def update(changed: dict[str, Any]) -> None:
            self.labels = changed["Labels"]

        return SimpleNamespace(attrs={"Spec": spec}, update=update)


@dataclass
class WatchLinks:
    """Links that have no engine, only the watch of a real worker."""

    port: int
    problem: EngineUnavailable | None = None
    stack: DeployedStack = field(default_factory=lambda: DeployedStack("chowder", SECRET))
    open: list[asyncio.StreamWriter] = field(default_factory=list)

    @asynccontextmanager
    async def linked(
        self, member: Member, place: WorkerPlace, _: NodeNeeds, __: Callable[[str], None]
    ) -> AsyncIterator[tuple[Node, Streams]]:
        if self.problem is not None:
            raise self.problem
        sent = json.dumps(asdict(ServerHello("store", (), 1, 2)))
        watch = await tunnel.dial(place.address, self.port, SECRET, f"watch {sent}")
        self.open.append(watch[1])
        with closing(watch[1]):
            engine = cast("NodeEngine", ScriptedEngine())
            yield Node(member, place, engine, ADDRESS), watch


@dataclass
class World:
    nodes: Nodes
    swarm: ScriptedSwarm
    links: WatchLinks
    worker: Listeners

    async def give_another_worker(self) -> None:
        """Replaces the worker, and waits until the node is linked to the new one."""
        self.swarm.container = "c2"
        async with asyncio.timeout(10), self.nodes._changed:
            await self.nodes._changed.wait_for(self._has_another)

    def _has_another(self) -> bool:
        node = self.nodes.linked.get("n1")
        return node is not None and node.place.container_id == "c2"

    async def linked(self, *node_ids: str) -> None:
        """Waits until exactly these are."""
        async with asyncio.timeout(10), self.nodes._changed:
            await self.nodes._changed.wait_for(lambda: set(self.nodes.linked) == set(node_ids))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "BEAT_INTERVAL_S", 0.02)
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.02)
    swarm = ScriptedSwarm()
    image = SimpleNamespace(get=lambda _: SimpleNamespace(id="sha256:" + "a" * 64))
    client = cast("docker.DockerClient", SimpleNamespace(api=swarm, nodes=swarm, images=image))
    async with Listeners.opened() as listeners, owned_tasks() as tasks:
        served = Worker(ADDRESS, SECRET, listeners, tmp_path)
        links = WatchLinks(
            await listeners.listen(HOST, 0, served.handle, tunnel.server_tls(SECRET))
        )
        with Threads(2, "swarm") as threads:
            nodes = Nodes(client, threads, cast("NodeLinks", links))
            tasks.create_task(nodes.run(NEEDS))
            yield World(nodes, swarm, links, listeners)


async def test_a_node_with_a_worker_is_linked_and_labelled_with_its_image(world: World) -> None:
    await world.nodes.wait_for_one()
    assert [each.hostname for each in world.nodes.members] == ["host-n1", "host-n2"]
    assert world.swarm.labels == {"dev.chowder-local.image-aaaaaaaaaaaa": "there"}
    assert world.nodes.get("n1").member.memory_bytes == 8
    with pytest.raises(EngineUnavailable, match="The node host-n2 does not answer"):
        world.nodes.get("n2")
    await world.nodes.wait_for_all()


async def test_one_that_breaks_off_is_lost_and_linked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.linked("n1")
    world.links.problem = EngineUnavailable("its cable is cut")
    world.links.open[-1].close()
    await world.linked()
    assert [each.id for each in world.nodes.missing] == ["n1"]
    # Its worker may just be replaced.
    assert world.nodes.away == []
    monkeypatch.setattr(module, "REPLACEMENT_S", 0.0)
    assert world.nodes.away == ["n1"]
    world.links.problem = None
    await world.linked("n1")
    assert (world.nodes.problems, world.nodes.away) == ({}, [])


async def test_the_end_of_a_worker_is_noticed_before_the_next_beat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_INTERVAL_S", 60.0)
    await world.give_another_worker()
    world.links.problem = EngineUnavailable("its cable is cut")
    await world.worker.close()
    await world.linked()


async def test_another_worker_on_the_node_gets_a_link_of_its_own(world: World) -> None:
    await world.linked("n1")
    first = world.nodes.get("n1")
    await world.give_another_worker()
    assert world.nodes.get("n1") is not first


async def test_the_worker_of_a_drained_node_that_is_empty_may_leave(world: World) -> None:
    await world.linked("n1")
    world.swarm.availability = "drain"
    await world.nodes.look(NEEDS)
    assert await module._order_for(world.nodes.get("n1")) == "leave"
    cast("ScriptedEngine", world.nodes.get("n1").engine).volume_ids.add(cast("Any", "chowder-1"))
    assert await module._order_for(world.nodes.get("n1")) == "stay"
