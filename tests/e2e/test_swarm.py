"""A server on three machines: what its agents can, and what happens when a machine fails."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import ssl
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from docker.errors import APIError

from chowder_local.core.domain import HOST_HOSTNAME, RELAY_HOSTNAME
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.server_container import build_server, server_tag
from chowder_local.engine.swarm import tunnel
from chowder_local.engine.swarm.image_copies import copy_missing_image
from chowder_local.engine.swarm.tunnel import Listeners
from chowder_local.engine.swarm.worker import PORT, Worker
from tests.e2e.api import Api, text_of
from tests.e2e.containers import inside
from tests.e2e.copies import local
from tests.e2e.registry import Registry
from tests.e2e.three_nodes import BRIDGE_ADDRESS, SERVER, WORKER, NodeEngine, ThreeNodes
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from docker.models.containers import Container

    Filters = dict[str, str | list[str] | bool]

IS_POSSIBLE = sys.platform == "linux" and os.geteuid() == 0 and getattr(ssl, "HAS_PSK", False)

pytestmark = [
    pytest.mark.docker,
    pytest.mark.nightly,
    pytest.mark.long,
    pytest.mark.timeout(900),  # The first sets up three machines with the sandbox image.
    pytest.mark.skipif(not IS_POSSIBLE, reason="it takes root on Linux, and Python 3.13"),
]

SECRET = "s" * 64
SANDBOX = "dev.chowder-local.sandbox"
SETTINGS = {
    "CHOWDER_WARM_POOL_SIZE": "0",
    "CHOWDER_WARM_POOL_MAX": "0",
    "CHOWDER_SNAPSHOT_INTERVAL_S": "20",
}
NEXT_IMAGE = "chowder-local/server:next"
ADDRESS = f"getent hosts {HOST_HOSTNAME} | cut -d' ' -f1"
PROBE = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
except OSError as refused:
    sys.exit(str(refused))
"""


class Deployed:
    """The stack, its server's API, and where its agents are."""

    def __init__(self, swarm: ThreeNodes, api: Api, problems: set[str]) -> None:
        self.swarm = swarm
        self.api = api
        self.problems = problems
        """What the server has said of nodes before they were linked."""

    def sandbox(self, instance_id: str) -> tuple[NodeEngine, Container]:
        """An agent's node and container: there is one, on one node."""
        sandbox_id = self.api.get(f"instances/{instance_id}").json()["sandbox_id"]
        filters: Filters = {"label": f"{SANDBOX}={sandbox_id}"}
        found = [
            (node, each)
            for node in self.swarm.nodes
            for each in node.engine.containers.list(filters=filters)
        ]
        assert len(found) == 1, found
        return found[0]

    def places(self, instance_id: str) -> set[NodeEngine]:
        """The nodes on which the agent has a running container."""
        sandbox_id = self.api.get(f"instances/{instance_id}").json()["sandbox_id"]
        filters: Filters = {"label": f"{SANDBOX}={sandbox_id}"}
        return {each for each in self.swarm.nodes if each.engine.containers.list(filters=filters)}

    def created(self, name: str, **more: object) -> str:
        instance_id = self.api.created(name, **more)
        self.api.until(instance_id, "running")
        return instance_id


@pytest.fixture(scope="module")
def swarm() -> Iterator[ThreeNodes]:
    build_server(Settings(), print, env=dict(os.environ))
    with tempfile.TemporaryDirectory(prefix="chowder-nodes-") as folder:
        swarm = ThreeNodes(Path(folder), expected_tag(Settings()))
        try:
            swarm.start()
            yield swarm
        finally:
            swarm.remove()


@pytest.fixture(scope="module")
def deployed(swarm: ThreeNodes) -> Iterator[Deployed]:
    swarm.deploy(SETTINGS)
    key = eventually(swarm.server_key, "the server has made a key", 120)
    with Api(f"http://{swarm.manager.address}:2469/v1", key) as api:
        problems: set[str] = set()
        linked = partial(_are_linked, api, problems)
        eventually(linked, "the last node has got the sandbox image", 300)
        yield Deployed(swarm, api, problems)


@pytest.fixture(scope="module")
def first(deployed: Deployed) -> str:
    first = deployed.created("first")
    # The manager has the server, so there is more room elsewhere.
    assert deployed.swarm.manager not in deployed.places(first)
    return first


@pytest.fixture(autouse=True)
def linked(deployed: Deployed) -> None:
    """An earlier test's machine is there again."""
    eventually(lambda: _are_linked(deployed.api), "all machines are linked", 240)


@pytest.fixture
def doomed(deployed: Deployed, first: str) -> Iterator[str]:
    """An agent on a machine that may fail, as the server is on another. All answer afterwards."""
    api, doomed = deployed.api, deployed.created("doomed")
    assert deployed.swarm.manager not in deployed.places(doomed)
    yield doomed
    assert api.delete(f"instances/{doomed}").status_code == 204
    eventually(lambda: _says(api, first, "Are you there?"), "the other agent answers", 180)


def test_an_agent_on_another_machine_talks_stops_starts_and_keeps_its_files(
    deployed: Deployed, first: str
) -> None:
    api = deployed.api
    api.say(first, "My number is 41.")
    api.stop(first)
    _, container = deployed.sandbox(first)
    assert container.status == "paused"
    api.start(first)
    assert "My number is 41." in api.say(first, "Which one?")
    content = os.urandom(3_000_000)
    files = {"file": ("large.bin", content)}
    sent = api.post(f"instances/{first}/files/upload", data={"path": "."}, files=files)
    assert sent.status_code == 204, sent.text
    read = api.get(f"instances/{first}/files/download", params={"path": "large.bin"})
    assert read.content == content


def test_a_machine_takes_an_image_from_its_registry_and_without_that_from_the_server(
    deployed: Deployed, tmp_path: Path
) -> None:
    giver, taker = deployed.swarm.manager, deployed.swarm.nodes[-1]
    source, target = (EngineAddress(each.url, each.name) for each in (giver, taker))

    async def copied(tag: str) -> None:
        async with Listeners.opened() as listeners:
            served = Worker(target, SECRET, listeners, tmp_path)
            tls = tunnel.server_tls(SECRET)
            port = await listeners.listen("127.0.0.1", 0, served.handle, tls)
            dialled = partial(tunnel.dial, "127.0.0.1", port, SECRET)
            await copy_missing_image(tag, source, target, dialled, print)

    def copy(tag: str) -> None:
        asyncio.run(copied(tag))
        assert taker.engine.images.get(tag).id == giver.engine.images.get(tag).id

    assert any("gets the sandbox image" in each for each in deployed.problems), deployed.problems
    with Registry(BRIDGE_ADDRESS) as registry:
        for tag in ("test/pulled:1", "test/copied:1"):
            place = f"{registry.name}/{tag}"
            giver.engine.images.get(_made(giver, tag)).tag(place)
            giver.engine.images.push(place)
        copy("test/pulled:1")
        assert {address for address, _ in registry.pulls} == {taker.address}
    copy("test/copied:1")


def _made(node: NodeEngine, tag: str) -> str:
    """A small image, of which no other engine knows anything."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(secrets.token_hex(8)))
    repository, _, version = tag.partition(":")
    node.engine.api.import_image_from_data(content.getvalue(), repository, version)
    return tag


def test_its_sandbox_is_as_confined_as_on_one_machine(deployed: Deployed, first: str) -> None:
    node, container = deployed.sandbox(first)
    host = container.attrs["HostConfig"]
    assert host["MemorySwap"] == host["Memory"] == 2048 * 1024 * 1024
    assert host["SecurityOpt"] == ["no-new-privileges=true"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["PidsLimit"]) == (True, ["ALL"], 512)
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    worker, server = (
        each.container_of(service)
        for each, service in ((node, WORKER), (deployed.swarm.manager, SERVER))
    )
    assert worker is not None
    assert server is not None
    places = [
        (place["IPAddress"], port)
        for each, port in ((worker, PORT), (server, 2469))
        for place in each.attrs["NetworkSettings"]["Networks"].values()
        if place["IPAddress"]
    ]
    assert network["IPAddress"] not in dict(places)
    for address, port in places:
        code, reason = _inside(container, f"python3 -c '{PROBE}' {address} {port}")
        assert code, f"{address}:{port} is reached: {reason}"
    assert _inside(container, f"python3 -c '{PROBE}' {RELAY_HOSTNAME} 2470") == (0, "")
    assert _inside(container, "cp /bin/true /tmp/ran && /tmp/ran") == (0, "")


def test_without_egress_it_reaches_the_relay_only(deployed: Deployed, first: str) -> None:
    api, manager = deployed.api, deployed.swarm.manager
    # No other test changes the egress, so it is still on.
    node, container = deployed.sandbox(first)
    bridge = node.engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    assert _inside(container, ADDRESS) == (0, f"{bridge}\n")
    local = f"http://{manager.address}:2469/local/instances/{first}"
    changed = api.patch(local, json={"egress": "off"})
    assert changed.is_success, changed.text
    api.until(first, "running")
    assert "Hello." in api.say(first, "Hello.")
    _, container = deployed.sandbox(first)
    for address in (manager.address, "10.213.77.254"):
        assert _inside(container, f"python3 -c '{PROBE}' {address} 2469")[0]
    assert _inside(container, f"python3 -c '{PROBE}' {RELAY_HOSTNAME} 2470") == (0, "")
    assert _inside(container, ADDRESS)[1] == ""
    # The local messenger is behind the relay, for every channel: what plugins send to hosts of
    # their own is led there inside the sandbox, and webhooks come as messages do.
    message = {"from": "Ada", "text": "Are you there?", "approve": True, "wait_s": 60}
    for channel in ("telegram", "slack", "line"):
        path = f"channels/{channel}"
        offline = {"config": {"offline": True}}
        connected = api.post(f"instances/{first}/{path}/connect", json=offline, timeout=90)
        assert connected.json()["status"] == "connected", connected.text
        said = api.post(f"{local}/{path}/messages", json=message, timeout=90)
        assert "Are you there?" in said.json()["answers"][0]["text"], channel


def test_an_update_of_the_server_and_of_its_workers_loses_nothing(
    deployed: Deployed, first: str
) -> None:
    deployed.api.say(first, "Stay as you are.")
    _, before = deployed.sandbox(first)
    repository, _, tag = NEXT_IMAGE.partition(":")
    made = deployed.swarm.manager.engine.containers.create(server_tag()).commit(repository, tag)
    deployed.swarm.spread(NEXT_IMAGE)
    deployed.swarm.deploy(SETTINGS, NEXT_IMAGE)
    services = [SERVER, *[WORKER] * 3]
    nodes = [deployed.swarm.manager, *deployed.swarm.nodes]

    def are_updated() -> bool:
        found = [node.container_of(each) for node, each in zip(nodes, services, strict=True)]
        images = [each.attrs["Config"]["Image"] for each in found if each is not None]
        return images == [made.id] * len(services)

    eventually(are_updated, "all have the next image", 120)
    eventually(lambda: _are_linked(deployed.api), "all machines are linked again", 120)
    _, after = deployed.sandbox(first)
    assert after.id == before.id
    # Its worker may end in the middle of a message.
    eventually(lambda: _says(deployed.api, first, "And now?"), "the agent answers again")
    assert "And now?" in deployed.api.say(first, "What did I ask?")


def test_a_machine_that_dies_takes_its_agents_along_and_brings_each_back_once(
    deployed: Deployed, doomed: str
) -> None:
    api = deployed.api
    node, _ = deployed.sandbox(doomed)
    node.die()
    try:
        eventually(
            lambda: f"{node.name} does not answer" in _refusal(api, doomed), "it says who is gone"
        )
    finally:
        node.start()
    eventually(lambda: _says(api, doomed, "Are you back?"), "the agent answers again", 180)
    assert "Are you back?" in api.say(doomed, "Do you remember?")
    deployed.sandbox(doomed)


def test_an_agent_on_another_machine_is_held_limited_looked_at_and_asks_before_it_acts(
    deployed: Deployed, first: str
) -> None:
    api, path = deployed.api, f"instances/{first}"
    local(api, "PUT", f"{path}/breakpoint", json={"match": {"text": "held"}, "once": True})
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(api.say, first, "Are you held?")
        query = {"instance_id": first, "wait_s": 25}
        held = partial(local, api, "GET", "held-calls", params=query)
        (call,) = eventually(lambda: held().json(), "a call is held")
        assert "Are you held?" in str(local(api, "GET", f"model-calls/{call['id']}").json())
        local(api, "POST", f"held-calls/{call['id']}/resume", json={"reply": "I was."})
        assert sent.result() == "I was."
    local(api, "PUT", f"{path}/budget", json={"model_calls": 1, "per": "total"})
    assert api.say(first, "One more.")
    refused = api.message(first, "Another one.")
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
    local(api, "DELETE", f"{path}/budget")
    assert api.say(first, "And now?")

    local(api, "PUT", f"{path}/approvals/policy", json={"ask": "always"})
    reply = [{"call": "exec", "arguments": {"command": "hostname"}}, {"template": "{{ result }}"}]
    local(api, "PUT", f"{path}/replies", json={"replies": [{"reply": reply}]})
    with ThreadPoolExecutor() as pool:

        def begun() -> tuple[Future[httpx.Response], str]:
            """A message in progress, and the id of its command, which waits."""
            sent = pool.submit(api.message, first, "Where are you?")
            waiting = partial(local, api, "GET", f"{path}/approvals")
            (asked,) = eventually(lambda: waiting().json(), "a command waits")
            return sent, f"{path}/approvals/{asked['id']}"

        message, asked = begun()
        (turn,) = local(api, "GET", f"{path}/activity").json()["turns"]
        assert (turn["state"], turn["tools"][0]["name"]) == ("running_tools", "exec")
        local(api, "POST", asked, json={"decision": "allow_once"})
        _, container = deployed.sandbox(first)
        assert text_of(message.result().json()) == _inside(container, "hostname")[1].strip()
        message, _ = begun()
        assert len(local(api, "DELETE", f"{path}/activity").json()["cancelled"]) == 1
        assert message.result().json()["error"]["code"] == "turn_cancelled"
    assert local(api, "POST", f"{path}/wait", json={}).json()["status"] == "idle"
    local(api, "PUT", f"{path}/approvals/policy", json={"ask": "off"})
    local(api, "DELETE", f"{path}/replies")


def test_an_agent_of_a_machine_that_is_cut_off_comes_back_elsewhere_and_is_not_doubled(
    deployed: Deployed, doomed: str
) -> None:
    api = deployed.api
    api.say(doomed, "Count on me.")
    said_at = datetime.now(UTC)
    eventually(lambda: _is_saved_since(api, doomed, said_at), "it is copied", 90)
    api.say(doomed, "Count on this, too.")
    node, former = deployed.sandbox(doomed)
    with _in_flight(api, doomed) as refusal:
        node.unplug()
    try:
        assert f"The node {node.name} does not answer" in refusal.result()
        eventually(lambda: deployed.places(doomed) - {node}, "it is elsewhere", 240)
        former.reload()
        assert former.status == "paused"
        answer = eventually(
            lambda: _says(api, doomed, "Where are you?"), "the agent answers again", 180
        )
        # What it said after the copy.
        assert 'Before that: "Count on this, too."' in answer
        transcript = api.get(f"{_local(api)}/instances/{doomed}/transcript").json()
        assert "The machine of this agent was lost." in str(transcript)
        assert "Where are you?" in api.say(doomed, "Do you remember?")
        found = api.get(f"{_local(api)}/instances/{doomed}").json()
        assert found["node"] != node.name
    finally:
        node.plug()
    eventually(lambda: _are_linked(api), "the machine is linked again", 240)
    filters: Filters = {"label": f"{SANDBOX}={former.labels[SANDBOX]}"}
    eventually(lambda: not node.engine.volumes.list(filters=filters), "its files are gone", 120)
    assert not node.engine.containers.list(all=True, filters=filters)
    assert "Do you remember?" in api.say(doomed, "What did I ask last?")


def test_a_drained_machine_gives_its_agents_to_others(deployed: Deployed, doomed: str) -> None:
    api, (node, _) = deployed.api, deployed.sandbox(doomed)
    api.say(doomed, "Pack your things.")
    with deployed.swarm.drained(node):
        eventually(lambda: deployed.places(doomed) - {node}, "it is elsewhere", 180)
        eventually(lambda: _says(api, doomed, "Where are you?"), "the agent answers again", 180)
        assert "Where are you?" in api.say(doomed, "Do you remember?")
        assert node not in deployed.places(doomed)
        eventually(lambda: not node.container_of(WORKER), "its worker has left")
        assert not node.engine.volumes.list(filters={"label": SANDBOX})


def test_a_deleted_one_leaves_nothing_on_any_machine(deployed: Deployed) -> None:
    deleted = deployed.created("deleted")
    sandbox_id = deployed.api.get(f"instances/{deleted}").json()["sandbox_id"]
    assert deployed.api.delete(f"instances/{deleted}").status_code == 204
    filters: Filters = {"label": f"{SANDBOX}={sandbox_id}"}
    services = deployed.swarm.manager.engine.services
    eventually(lambda: not services.list(filters=dict(filters)), "no service")
    for node in deployed.swarm.nodes:
        left = node.engine.containers.list(all=True, filters=filters)
        assert (left, node.engine.volumes.list(filters=filters)) == ([], []), node.name


def _inside(container: Container, script: str) -> tuple[int, str]:
    """As `inside`, but not while the container is frozen for a copy."""

    def done() -> tuple[int, str] | None:
        try:
            return inside(container, script)
        except APIError as refused:
            if refused.status_code != HTTPStatus.CONFLICT:
                raise
            return None

    return eventually(done, "it is not frozen")


def _are_linked(api: Api, problems: set[str] | None = None) -> bool:
    """Whether all nodes take sandboxes; adds to `problems` what is said of others."""
    try:
        health = api.get(api.base_url.join("/local/health")).json()
    except httpx.TransportError:
        return False
    if problems is not None:
        problems |= {each["problem"] for each in health["nodes"] if each["problem"]}
    return [each["is_linked"] for each in health["nodes"]] == [True, True, True]


def _local(api: Api) -> str:
    return str(api.base_url.join("/local"))


def _is_saved_since(api: Api, instance_id: str, time: datetime) -> bool:
    listed = api.get(f"{_local(api)}/instances/{instance_id}/snapshots").json()
    return any(datetime.fromisoformat(each["created_at"]) > time for each in listed)


def _says(api: Api, instance_id: str, text: str) -> str | None:
    """What the agent answers; None if it does not."""
    try:
        answer = api.message(instance_id, text)
    except httpx.TransportError:
        return None
    return text_of(answer.json()) if answer.is_success else None


@contextmanager
def _in_flight(api: Api, instance_id: str) -> Iterator[Future[str]]:
    """A message whose model call has begun when the block begins; the block ends with its end."""
    path = f"{_local(api)}/instances/{instance_id}/replies"
    rule = {"match": {"text": "Take your time."}, "reply": {"delay_s": 300, "text": "Late."}}
    assert api.put(path, json={"unmatched": "offline", "replies": [rule]}).is_success

    def refused() -> str:
        answer = api.message(instance_id, "Take your time.")
        return f"{answer.status_code}: {answer.json().get('detail')}"

    calls = f"{_local(api)}/instances/{instance_id}/model-calls"
    count = len(api.get(calls).json())
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(refused)
        eventually(lambda: len(api.get(calls).json()) > count, "the model is asked")
        yield sending
    api.delete(path)


def _refusal(api: Api, instance_id: str) -> str:
    answer = api.message(instance_id, "Are you there?")
    return f"{answer.status_code}: {answer.json().get('detail')}"
