"""The server in a container, as compose.yaml has it, and as testcontainers and the plugin do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import chowder_local
from chowder_local.client.abandoned_runs import container_facts
from chowder_local.core.data_dir import Lease
from chowder_local.core.domain import HOST_HOSTNAME
from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.server_container import STORE_FILE, build_server, read_file, server_tag
from chowder_local.engine.store_resources import remove_store
from tests.e2e.api import Api
from tests.e2e.containers import container_of, inside, names_of_sandboxes, networks
from tests.e2e.probing import probed, relay_of
from tests.e2e.serving import bare_environment, free_port
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"
SERVICE = "chowder-local"
TESTS = Path(__file__).parents[2] / "examples" / "compose" / "tests.yaml"
OVERRIDE = "services: {{chowder-local: {{environment: {{CHOWDER_IMAGE: {sandbox_image}}}}}}}"
WITH_TESTCONTAINERS = """
import os

from chowder_local.testing.containers import ChowderLocalContainer

def test_an_agent_of_its_own_server():
    env = {name: os.environ[name] for name in ("CHOWDER_WARM_POOL_SIZE", "CHOWDER_IMAGE")}
    with ChowderLocalContainer(env=env) as server, server.client() as client:
        assert server.base_url.startswith("http://")
        instance = client.create_instance("mine")
        print("sandbox", client.wait_until_running(instance["id"])["sandbox_id"])

def test_an_agent_of_the_runs(chowder_server, chowder_instance):
    assert "Good day" in chowder_instance.say("ask your model: Good day")
    print("sandbox", chowder_instance.client.instance(chowder_instance.id)["sandbox_id"])
"""


class Composed:
    """What compose.yaml describes, under a name of the test's own."""

    def __init__(self, engine: docker.DockerClient, folder: Path, sandbox_image: str) -> None:
        self.engine = engine
        self.name = f"chowder-test-{uuid.uuid4().hex[:8]}"
        self.port = free_port()
        override = folder / "override.yaml"
        override.write_text(OVERRIDE.format(sandbox_image=sandbox_image))
        self.files = ["-f", str(COMPOSE), "-f", str(TESTS), "-f", str(override)]
        self.env = bare_environment() | {
            "CHOWDER_PUBLISHED_PORT": str(self.port), "CHOWDER_WARM_POOL_SIZE": "0",
        }  # fmt: skip

    def __call__(self, *words: str) -> str:
        """What `docker compose` prints; it has to succeed."""
        command = ["docker", "compose", "-p", self.name, *self.files, *words]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def container(self) -> Container:
        return self.engine.containers.get(f"{self.name}-{SERVICE}-1")

    def told(self, *words: str) -> str:
        """What our command line says in it."""
        return self("exec", "-T", SERVICE, "chowder-local", *words)

    def store_id(self) -> str:
        return str(read_file(self.container, STORE_FILE))


@pytest.fixture(scope="module")
def composed(
    engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory, image: str
) -> Iterator[Any]:
    """The service, healthy, and nothing of it afterwards."""
    build_server(Settings(), print, env=dict(os.environ))
    folder, store_id = tmp_path_factory.mktemp("compose"), None
    composed = Composed(engine, folder, image)
    try:
        composed("up", "--detach", "--wait", SERVICE)
        store_id = composed.store_id()
        yield composed
        log = composed("logs", SERVICE)
        composed("stop", SERVICE)
        composed("run", "--rm", "-T", SERVICE, "reset", "--yes", "--json")
        assert not names_of_sandboxes(engine, store_id)
        assert not networks(engine, store_id)
        assert "Traceback" not in log, log
    finally:
        composed("down", "--volumes")
        if store_id is not None:
            remove_store(store_id, os.environ)


@pytest.fixture(scope="module")
def inner(composed: Composed) -> Iterator[Api]:
    """The service's API by the port that it publishes."""
    told = json.loads(composed.told("env", "--format", "json"))
    assert told["CHOWDER_BASE_URL"] == f"http://127.0.0.1:{composed.port}/v1"
    assert composed.told("dashboard").startswith(f"http://127.0.0.1:{composed.port}/sign-in#")
    key = told["CHOWDER_KEY"]
    with Api(f"http://127.0.0.1:{composed.port}/v1", key) as api:
        yield api


@pytest.fixture(scope="module")
def pair(composed: Composed, engine: docker.DockerClient, inner: Api) -> Iterator[tuple[str, str]]:
    """Two agents, of which the second has no egress; when they are deleted, nothing is left."""
    first = inner.created("first")
    inner.until(first, "running")
    second = inner.created("second")
    root = str(inner.base_url).rstrip("/").removesuffix("/v1")
    changed = inner.patch(f"{root}/local/instances/{second}", json={"egress": "off"})
    assert changed.status_code == 200, changed.text
    inner.until(second, "running")
    yield first, second
    for each in (first, second):
        assert inner.delete(f"instances/{each}").status_code == 204
    eventually(lambda: not names_of_sandboxes(engine, composed.store_id()), "all is removed", 30)


def test_the_file_names_the_image_of_this_version(composed: Composed) -> None:
    assert f"image: chowder-local/server:{chowder_local.__version__}\n" in COMPOSE.read_text()
    labels = composed.container.labels
    assert labels["dev.chowder-local.image"] == "server"
    assert labels["dev.chowder-local.version"] == chowder_local.__version__


def test_without_another_image_its_agents_are_of_this_machines(composed: Composed) -> None:
    bare = ("exec", "-T", SERVICE, "env", "-u", "CHOWDER_IMAGE")
    assert composed(*bare, "chowder-local", "image", "tag").strip() == expected_tag(Settings())


def test_the_service_is_a_user_without_rights_and_knows_where_it_is(composed: Composed) -> None:
    findings = composed.told("doctor")
    assert f"this is {composed.container.short_id}" in findings
    assert "fail" not in findings
    # Not its own command line, nor that of a health check.
    script = "for p in /proc/[0-9]*; do grep -q '[c]howder_local' $p/cmdline && cat $p/status; done"
    _, said = inside(composed.container, script)
    status = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert set(status["Uid"].split()) == {"1000"}
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    # What it was given is not for the machine's other users, and not in what the engine tells.
    ports = composed.container.attrs["NetworkSettings"]["Ports"]["2469/tcp"]
    assert [each["HostIp"] for each in ports] == ["127.0.0.1"]
    assert "chd_" not in json.dumps(composed.container.attrs)


def test_an_agent_lives_its_life_through_the_published_port(
    composed: Composed, inner: Api, pair: tuple[str, str]
) -> None:
    for each in pair:
        assert inner.say(each, "Remember the walnut.", session="walnut")
        # By the relay, in whose place a sandbox sees the service.
        said = inner.say(each, "ask your model: Is it a nut?", session="nut")
        assert said == '[offline] Turn 1. You said: "Is it a nut?"'
        assert inner.get(f"instances/{each}/files").status_code == 200
    inner.stop(pair[0])
    inner.start(pair[0])
    assert "Remember the walnut." in inner.say(pair[0], "What was it?", session="walnut")


@pytest.fixture
def strangers(
    composed: Composed, engine: docker.DockerClient, inner: Api, pair: tuple[str, str]
) -> Iterator[dict[str, Container]]:
    """In each of the two networks one that no rules keep in, and that listens as a gateway does."""
    with ExitStack() as stack:
        found: dict[str, Container] = {}
        for each in pair:
            sandbox = container_of(engine, inner, each)
            (network,) = sandbox.attrs["NetworkSettings"]["Networks"]
            command = ["python3", "-m", "http.server", "18789"]
            image = sandbox.attrs["Image"]
            stranger = engine.containers.run(
                image, command, entrypoint="", network=network, detach=True
            )
            stack.callback(stranger.remove, force=True)
            stranger.reload()
            found[network] = stranger
        yield found


def address_of(container: Container, network: str) -> str:
    address: str = container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
    return address


# What must not be reached is tried until it times out.
def test_a_sandbox_reaches_the_relay_and_no_neighbour_and_no_api(
    composed: Composed,
    engine: docker.DockerClient,
    inner: Api,
    pair: tuple[str, str],
    strangers: dict[str, Container],
) -> None:
    opened, closed = strangers
    assert closed == f"{opened}-closed"
    servers = [
        address_of(composed.container, each)
        for each in (opened, closed, f"{composed.name}_default")
    ]
    gateways = [
        engine.networks.get(each).attrs["IPAM"]["Config"][0]["Gateway"] for each in (opened, closed)
    ]
    for instance_id, (network, stranger) in zip(pair, strangers.items(), strict=True):
        sandbox = container_of(engine, inner, instance_id)
        neighbour = address_of(stranger, network)
        host, relay_port = relay_of(sandbox)
        assert host == address_of(composed.container, network)
        found = probed(
            sandbox,
            tcp=[
                *([address, 18789] for address in (neighbour, *gateways)),
                *([address, port] for address in (*servers, *gateways) for port in (2469, 22)),
                *([address, relay_port] for address in (*servers, *gateways)),
            ],
            udp=[
                [address, port]
                for address in (neighbour, host, "255.255.255.255", "224.0.0.251")
                for port in (53, relay_port)
            ],
        )
        # What it binds to is no way around that.
        assert [row for row in found["tcp"] if True in row[2:]] == [[host, relay_port, True, True]]
        assert [row for row in found["udp"] if True in row[2:]] == []
        # Nor is it reached, by one that may reach everybody: that it does is that it is the rules.
        own = address_of(sandbox, network)
        back = probed(stranger, tcp=[[own, 18789], [host, 2469]])
        assert [row[2] for row in back["tcp"]] == [False, True]
        (there,) = probed(composed.container, tcp=[[neighbour, 18789]])["tcp"]
        assert there[2]


def test_a_sandbox_with_egress_reaches_a_service_of_the_machine(
    engine: docker.DockerClient, inner: Api, pair: tuple[str, str]
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as service:
        place = [HOST_HOSTNAME, service.getsockname()[1]]
        opened, closed = (
            probed(container_of(engine, inner, each), tcp=[place])["tcp"][0][2] for each in pair
        )
    assert (opened, closed) == (True, False)


def test_a_neighbour_service_calls_it_by_its_name_with_the_key_of_the_volume(
    composed: Composed,
) -> None:
    assert composed("run", "--rm", "-T", "tests") == "1 passed\n"


def test_another_name_is_refused_as_on_the_machine_itself(composed: Composed) -> None:
    url = f"http://127.0.0.1:{composed.port}/local/health"
    named = {name: httpx.get(url, headers={"Host": name}, trust_env=False).status_code
             for name in ("chowder-local:2469", "rebound.example")}  # fmt: skip
    assert named == {"chowder-local:2469": 200, "rebound.example": 403}


def test_started_again_it_finds_its_agents_as_they_were(
    composed: Composed, engine: docker.DockerClient, inner: Api, pair: tuple[str, str]
) -> None:
    were = {str(container_of(engine, inner, each).id) for each in pair}
    for each in pair:
        inner.say(each, "Remember the oak.", session="oak")
    composed("restart", SERVICE)
    composed("up", "--detach", "--wait", SERVICE)
    for each in pair:
        inner.until(each, "running")
        assert "Remember the oak." in inner.say(each, "Still there?", session="oak")
    assert {str(container_of(engine, inner, each).id) for each in pair} == were
    # It was let go of by its networks, so that it could start without them.
    assert "leave the sandbox networks" not in composed("logs", SERVICE)


def test_its_own_container_cannot_be_reset_from_within(composed: Composed) -> None:
    container = composed.container
    code, said = container.exec_run(["chowder-local", "reset", "--yes"])
    assert code == 1
    assert b"docker compose run --rm chowder-local reset --yes" in said


# Servers in containers, two of them, with an agent each.
def test_testcontainers_and_the_plugin_start_one_and_leave_nothing(
    composed: Composed, engine: docker.DockerClient, tmp_path: Path, image: str
) -> None:
    (tmp_path / "test_mine.py").write_text(WITH_TESTCONTAINERS)
    env = bare_environment() | {
        "HOME": str(tmp_path), "CHOWDER_WARM_POOL_SIZE": "0", "CHOWDER_IMAGE": image,
        "CHOWDER_DATA_DIR": str(tmp_path / "data"),
    }  # fmt: skip
    # Of a run that was killed: a lease that nobody holds.
    left_over = engine.containers.create(server_tag(), name=f"chowder-tests-{uuid.uuid4().hex}")
    Lease.take(Settings.read(env).leases_dir, container_facts(str(left_over.name)))
    before = {str(each.id) for each in engine.containers.list(all=True, ignore_removed=True)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rP", "--chowder", "container"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    sandboxes = [
        line.split()[1] for line in done.stdout.splitlines() if line.startswith("sandbox ")
    ]
    assert len(sandboxes) == 2
    left = engine.containers.list(all=True, ignore_removed=True)
    assert not {each.name for each in left} & {*sandboxes, left_over.name}
    assert list(Settings.read(env).leases_dir.glob("*.json")) == []
    # Other tests, which may run beside, have servers with sandboxes of another image.
    own = [each for each in left if f"CHOWDER_IMAGE={image}" in each.attrs["Config"]["Env"]]
    assert {str(each.id) for each in own} <= before
