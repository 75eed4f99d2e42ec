"""An agent whose egress is off: seen from inside, there is the model relay and nothing else."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import HOST_HOSTNAME
from tests.e2e.containers import container_of, inside
from tests.e2e.probing import probed, relay_of
from tests.e2e.quick_agents import remembers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

GATEWAY = "MainThread"
"""The kernel's name of a process that is Node."""
NAMES = (
    "example.com", "one.one.one.one", "host.docker.internal", "gateway.docker.internal",
    HOST_HOSTNAME,
)  # fmt: skip
OUTSIDE = ("1.1.1.1", "192.0.2.1", "169.254.169.254", "172.17.0.1", "10.0.0.1", "224.0.0.251")


def local(server: ServerProcess, instance_id: str) -> str:
    return f"{server.base_url.removesuffix('/v1')}/local/instances/{instance_id}"


def own_address() -> str:
    """What this machine would call the outside from; its bridge where it has no way there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        try:
            unsent.connect(("192.0.2.1", 9))
        except OSError:
            return "172.17.0.1"
        address: str = unsent.getsockname()[0]
        return address


@pytest.fixture
def server(quick_server: ServerProcess) -> ServerProcess:
    return quick_server


@pytest.fixture
def api(quick_api: Api) -> Api:
    return quick_api


@pytest.fixture
def neighbour(quick_ids: list[str]) -> str:
    """An agent that has egress."""
    return quick_ids[1]


@pytest.fixture
def closed(api: Api, server: ServerProcess, quick_ids: list[str]) -> str:
    """An agent that has been told something, and then had its egress turned off."""
    instance_id = quick_ids[0]
    is_open = api.get(local(server, instance_id)).json()["egress_in_force"] == "on"
    answer = api.patch(local(server, instance_id), json={"egress": "off"})
    assert answer.status_code == 200, answer.text
    assert not is_open or answer.json()["status"] == "provisioning"
    api.until(instance_id, "running")
    return instance_id


@pytest.fixture
def host_ports() -> Iterator[tuple[int, int]]:
    """A TCP and a UDP port that this machine listens on at all of its addresses."""
    with (
        closing(socket.create_server(("0.0.0.0", 0))) as tcp,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp,
    ):
        udp.bind(("0.0.0.0", 0))
        yield tcp.getsockname()[1], udp.getsockname()[1]


def test_it_is_the_same_agent_and_works(
    api: Api, server: ServerProcess, engine: docker.DockerClient, closed: str
) -> None:
    remembers(api, closed)
    found = api.get(local(server, closed)).json()
    assert (found["egress"], found["egress_in_force"]) == ("off", "off")
    container = container_of(engine, api, closed)
    (network,) = container.attrs["NetworkSettings"]["Networks"]
    assert network == f"chowder-{server.store_id}-closed"
    assert engine.networks.get(network).attrs["Internal"] is True
    # Its files are reached as any other's, and its gateway by this machine.
    assert api.get(f"instances/{closed}/files").status_code == 200
    url = api.get(f"{local(server, closed)}/gateway").json()["gateway_url"]
    assert url == api.get(f"instances/{closed}").json()["gateway_url"]
    assert "127.0.0.1" not in url


def test_no_name_resolves_and_nothing_leaves_but_to_the_relay(
    api: Api,
    engine: docker.DockerClient,
    closed: str,
    neighbour: str,
    host_ports: tuple[int, int],
) -> None:
    container, other = (container_of(engine, api, each) for each in (closed, neighbour))
    host, relay_port = relay_of(container)
    others_host, others_relay_port = relay_of(other)
    assert others_relay_port == relay_port
    tcp_port, udp_port = host_ports
    (network,) = other.attrs["NetworkSettings"]["Networks"].values()
    elsewhere = [*OUTSIDE, others_host, network["IPAddress"], own_address(), host]
    found = probed(
        container,
        names=[*NAMES, str(other.name)],
        tcp=[
            *([each, port] for each in elsewhere for port in (80, 22, tcp_port, 18789)),
            [host, relay_port],
            [others_host, relay_port],
        ],
        udp=[
            [each, port]
            for each in (*elsewhere, "255.255.255.255", host.rpartition(".")[0] + ".255")
            for port in (53, udp_port)
        ],
    )
    assert [each for each in found["names"] if each[1]] == []
    assert [each for each in found["tcp"] if True in each[2:]] == [[host, relay_port, True, True]]
    assert [each for each in found["udp"] if True in each[2:]] == []
    # One with egress reaches the same ports by the same program, or this would prove nothing.
    places = [others_host, HOST_HOSTNAME]
    control = probed(
        other,
        tcp=[[each, tcp_port] for each in places],
        udp=[[each, udp_port] for each in places],
    )
    for each in (*control["tcp"], *control["udp"]):
        assert each[2:] == [True, True]


def test_a_call_cannot_be_begun_from_the_gateways_port(
    api: Api, engine: docker.DockerClient, closed: str, host_ports: tuple[int, int]
) -> None:
    container = container_of(engine, api, closed)
    host, _ = relay_of(container)
    script = (
        "import socket; s = socket.socket(); s.settimeout(2); "
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); "
        f"s.bind(('', 18789)); s.connect(('{host}', {host_ports[0]}))"
    )
    code, output = container.exec_run(["python3", "-c", script])
    assert code != 0
    assert b"timed out" in output or b"in use" in output


def test_the_agent_cannot_open_it_again(api: Api, engine: docker.DockerClient, closed: str) -> None:
    container = container_of(engine, api, closed)
    code, said = inside(
        container,
        "python3 -I -c '"
        "import socket, struct\n"
        "s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)\n"
        # The deletion of all tables.
        'body = struct.pack("=IHHII", 20, 0x10, 1, 0, 0) + bytes([0, 0, 0, 10])\n'
        'body += struct.pack("=IHHII", 20, 10 << 8 | 2, 5, 1, 0) + bytes([0, 0, 0, 0])\n'
        'body += struct.pack("=IHHII", 20, 0x11, 1, 2, 0) + bytes([0, 0, 0, 10])\n'
        "s.send(body)\n"
        'print(struct.unpack_from("=i", s.recv(4096), 16)[0])\'',
    )
    # Operation not permitted.
    assert (code, said.strip()) == (0, "-1"), said


def test_nothing_runs_in_one_that_somebody_else_has_started(
    api: Api, server: ServerProcess, engine: docker.DockerClient, closed: str
) -> None:
    container = container_of(engine, api, closed)
    # Or its absence would prove nothing.
    _, gateway = inside(container, "cat /proc/[0-9]*/comm 2>/dev/null")
    assert GATEWAY in gateway.split(), gateway
    # Or it would be made anew as soon as the server finds that it had ended.
    server.kill()
    try:
        container.restart(timeout=1)
        # It waits to be confined anew, and ends if that does not come.
        # One of them may end while they are listed.
        _, said = inside(container, "cat /proc/[0-9]*/comm 2>/dev/null")
    finally:
        server.up()
    assert GATEWAY not in said.split()
    assert "sh" in said.split()
    # It would end by itself, but only in half a minute; it is made anew while it still runs.
    api.until(closed, "running")
    assert container_of(engine, api, closed).id != container.id
    assert f"instance {closed} is running, its sandbox running" in server.log()
    remembers(api, closed)


def test_egress_comes_back_when_it_is_left_to_the_server(
    api: Api, server: ServerProcess, engine: docker.DockerClient, closed: str
) -> None:
    api.stop(closed)
    changed = api.patch(local(server, closed), json={"egress": None}).json()
    assert (changed["status"], changed["egress_in_force"]) == ("stopped", "on")
    api.start(closed)
    container = container_of(engine, api, closed)
    assert list(container.attrs["NetworkSettings"]["Networks"]) == [f"chowder-{server.store_id}"]
    # There is a way out again.
    code, _ = inside(container, "grep -q '^eth0\t00000000' /proc/net/route")
    assert code == 0
