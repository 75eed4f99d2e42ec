"""The link to a node: its engine is the machine's own, and a sandbox is as Swarm starts it."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from chowder_local.core.domain import Egress, SandboxId, SandboxSpec, SandboxState
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import sandbox_labels
from chowder_local.engine.networks import SandboxNetworks
from chowder_local.engine.specs import Limits, SandboxDefaults
from chowder_local.engine.swarm import tunnel, worker
from chowder_local.engine.swarm.forwards import Gateways, RelayIngress
from chowder_local.engine.swarm.nodes import (
    DeployedStack,
    Member,
    Node,
    NodeLinks,
    NodeNeeds,
    WorkerPlace,
    beat,
)
from chowder_local.engine.swarm.tunnel import Listeners
from chowder_local.engine.swarm.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from chowder_local.engine.swarm.tunnel import Streams

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

SECRET = "s" * 64
HOST = "127.0.0.1"
RELAY_PORT = 2470
SANDBOX_ID = SandboxId("chowder-node-test")
# It waits as a sandbox's own command does, and then says that it has begun.
COMMAND = ["sh", "-c", "until [ -e /tmp/confined ]; do sleep 0.05; done; echo begun; sleep 300"]


@pytest.fixture
def task(client: docker.DockerClient, store_id: str) -> Iterator[Container]:
    """A container as Swarm makes one for a service of a sandbox."""
    made = client.containers.run(
        expected_tag(Settings()), COMMAND, entrypoint="", detach=True, read_only=True,
        name=f"{SANDBOX_ID}.1.{secrets.token_hex(8)}", user="1000:1000",
        labels=sandbox_labels(store_id, SANDBOX_ID), mem_limit="512m",
        tmpfs={"/tmp": "rw,exec,mode=1777"}, volumes={SANDBOX_ID: {"bind": "/data"}},
    )  # fmt: skip
    yield made
    made.remove(force=True)
    client.volumes.get(SANDBOX_ID).remove(force=True)


@asynccontextmanager
async def linked(
    store_id: str, container: Container, folder: Path, port: int, listeners: Listeners
) -> AsyncIterator[Node]:
    defaults = SandboxDefaults(expected_tag(Settings()), Limits(512, 1.0, 64))
    needs = NodeNeeds(find_engine(os.environ), defaults, RELAY_PORT, door_port=1)
    place = WorkerPlace(str(container.id), HOST)
    member = Member("n1", "node1", is_up=True, is_drained=False, memory_bytes=1, worker=place)
    links = NodeLinks(DeployedStack("test", SECRET), store_id, folder, listeners, 20.0, 2)
    async with links.linked(member, place, needs, print) as (node, watch):
        assert node.available_bytes
        await beat(node, watch)
        yield node


@pytest.fixture
async def node(
    store_id: str, own: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Node]:
    # The worker of this test is no container, and has none of its addresses.
    monkeypatch.setattr(SandboxNetworks, "relay_binds", [])
    async with Listeners.opened() as listeners:
        served = Worker(find_engine(os.environ), SECRET, listeners, tmp_path)
        port = await listeners.listen(HOST, 0, served.handle, tunnel.server_tls(SECRET))
        monkeypatch.setattr(worker, "PORT", port)
        async with linked(store_id, own, tmp_path, port, listeners) as node:
            yield node


@pytest.mark.parametrize("egress", list(Egress))
async def test_a_sandbox_that_swarm_has_started_is_completed_on_its_node(
    node: Node, task: Container, client: docker.DockerClient, store_id: str, egress: Egress
) -> None:
    spec = SandboxSpec(SANDBOX_ID, {"openclaw.json": b"{}"}, egress=egress)
    info = await node.engine.admit(spec, str(task.id))
    assert (info.state, info.egress, info.is_confined) == (SandboxState.RUNNING, egress, True)
    task.reload()
    suffix = "-joined" if egress is Egress.ON else "-joined-closed"
    (network,) = task.attrs["NetworkSettings"]["Networks"]
    assert network == f"chowder-{store_id}{suffix}"
    address = task.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
    assert info.gateway_url == f"http://{address}:18789"
    host = task.attrs["HostConfig"]
    assert host["MemorySwap"] == host["Memory"] == 512 * 1024 * 1024
    assert task.exec_run(["cat", "/data/.openclaw/openclaw.json"]).output == b"{}"
    # By what it is labelled with: its name is Swarm's.
    assert await node.engine.inspect(SANDBOX_ID) == info
    assert set(await node.engine.sandboxes()) == {SANDBOX_ID}
    await node.engine.pause(SANDBOX_ID)
    assert (await node.engine.inspect(SANDBOX_ID)).state is SandboxState.PAUSED


async def test_streams_between_agents_and_the_server_end_with_the_link_to_their_node(
    store_id: str, own: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SandboxNetworks, "relay_binds", [])
    async with Listeners.opened() as listeners:
        served = Worker(find_engine(os.environ), SECRET, listeners, tmp_path)
        port = await listeners.listen(HOST, 0, served.handle, tunnel.server_tls(SECRET))
        monkeypatch.setattr(worker, "PORT", port)
        agent_port = await listeners.listen("127.0.0.78", 0, _greets)
        monkeypatch.setattr(worker, "GATEWAY_PORT", agent_port)
        relay_port = await listeners.listen(HOST, 0, _greets)
        door_port = await RelayIngress(listeners, SECRET).open(HOST, relay_port)
        gateways = Gateways(listeners, SECRET, lambda _: True)
        async with linked(store_id, own, tmp_path, port, listeners):
            url = urlsplit(await gateways.local_url(SANDBOX_ID, HOST, "http://127.0.0.78:1"))
            streams = [
                await asyncio.open_connection(url.hostname, url.port),
                await tunnel.dial(HOST, door_port, SECRET, "relay 127.0.0.78"),
            ]
            for reader, _ in streams:
                assert await reader.readline() == b"hello\n"
        for reader, writer in streams:
            assert await reader.read() == b""
            writer.close()


async def test_a_node_whose_worker_is_gone_does_not_answer(
    store_id: str, own: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Listeners.opened() as listeners:
        port = await listeners.listen(HOST, 0, _ends)
        listeners.end(HOST, port)
        monkeypatch.setattr(worker, "PORT", port)
        with pytest.raises(EngineUnavailable, match="the node node1"):
            async with linked(store_id, own, tmp_path, port, listeners):
                pass


async def _greets(streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"hello\n")
    await reader.read()


async def _ends(_: Streams) -> None:
    """Serves nothing."""
