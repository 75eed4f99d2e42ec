"""What a sandbox may do, whatever runs in it."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from chowder_local.core.domain import HOST_HOSTNAME
from tests.e2e.containers import config_of, container_of, inside
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.quick]

REACH = "curl -s --noproxy '*' --max-time 3 -o /dev/null -w '%{http_code}'"


@pytest.fixture
def server(quick_server: ServerProcess) -> ServerProcess:
    return quick_server


@pytest.fixture
def api(quick_api: Api) -> Api:
    return quick_api


@pytest.fixture
def agent(quick_ids: list[str]) -> str:
    return quick_ids[0]


@pytest.fixture
def neighbour(quick_ids: list[str]) -> str:
    return quick_ids[1]


def test_its_processes_have_no_capabilities_and_cannot_write_the_root(
    api: Api, engine: docker.DockerClient, agent: str
) -> None:
    # In the order in which it is said.
    script = "exec 2>&1; id -u; grep -h ^CapBnd /proc/1/status; "
    script += "touch /opt/x /usr/x /etc/x; touch /data/x"
    code, said = inside(container_of(engine, api, agent), script)
    assert code == 0, said
    assert said.splitlines()[:2] == ["1000", "CapBnd:\t0000000000000000"]
    assert said.count("Read-only file system") == 3


def test_every_process_is_without_rights_and_cannot_get_any(
    api: Api, engine: docker.DockerClient, agent: str
) -> None:
    container = container_of(engine, api, agent)
    script = "grep -hE '^(Uid|Cap|NoNewPrivs|Seccomp):?' /proc/[0-9]*/status"
    _, said = inside(container, script)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in said.splitlines():
        name, _, value = line.partition(":")
        found[name].add(" ".join(value.split()))
    sets = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    assert {name: found[name] for name in sets} == {name: {"0" * 16} for name in sets}
    assert found["Uid"] == {"1000 1000 1000 1000"}
    assert found["NoNewPrivs"] == {"1"}
    # The engine's filter of system calls, which keeps from new namespaces, mounts and keys.
    assert found["Seccomp"] == {"2"}
    for tried in ("unshare --user true", "unshare --net true", "mount -t tmpfs none /tmp"):
        code, said = inside(container, tried)
        assert code != 0, tried
        assert "permitted" in said or "denied" in said or "superuser" in said, said
    _, said = inside(container, "echo 0 > /proc/sys/kernel/panic; echo b > /proc/sysrq-trigger")
    assert said.count("cannot create") == 2, said


def test_a_sandbox_has_no_file_socket_or_device_of_the_host(
    api: Api, engine: docker.DockerClient, agent: str
) -> None:
    container = container_of(engine, api, agent)
    _, sockets = inside(container, "find / -xdev -type s 2>/dev/null; ls /var/run/docker.sock /run")
    assert "docker" not in sockets.replace("cannot access '/var/run/docker.sock'", "")
    _, devices = inside(container, "find /dev -type b")
    assert devices == ""
    _, mounts = inside(container, "awk '{print $5, $9}' /proc/self/mountinfo | grep -w ext4")
    ours = {"/data", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/usr/sbin/docker-init"}
    ours |= {"/sbin/docker-init"}
    assert {line.split()[0] for line in mounts.splitlines()} <= ours


def test_what_listens_on_the_hosts_loopback_is_not_reached(
    api: Api, server: ServerProcess, engine: docker.DockerClient, agent: str, neighbour: str
) -> None:
    container = container_of(engine, api, agent)
    published = api.get(f"instances/{neighbour}").json()["gateway_url"]
    ports = [server.port, urlsplit(published).port]
    base_url = config_of(container)["models"]["providers"]["chowder-openai"]["baseUrl"]
    hosts = [urlsplit(base_url).hostname, "127.0.0.1", "host.docker.internal", HOST_HOSTNAME]
    for port in ports:
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code
        for host in hosts:
            code, said = inside(container, f"{REACH} http://{host}:{port}/")
            assert (code != 0, said) == (True, "000"), (host, port)


def test_sandboxes_do_not_hear_each_other(
    api: Api, engine: docker.DockerClient, agent: str, neighbour: str
) -> None:
    listening = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n"
        "s.bind(('', 9999)); heard = open('/tmp/heard', 'w')\n"
        "print('ready', file=heard, flush=True)\n"
        "while True: print(s.recv(99).decode(), file=heard, flush=True)"
    )
    speaking = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        "for host in sys.argv[2:]: s.sendto(sys.argv[1].encode(), (host, 9999))"
    )
    listener = container_of(engine, api, neighbour)
    speaker = container_of(engine, api, agent)
    (network,) = listener.attrs["NetworkSettings"]["Networks"].values()
    # Its own address, and all of the network's.
    broadcast = ipaddress.ip_interface(f"{network['Gateway']}/{network['IPPrefixLen']}").network
    told = [network["IPAddress"], str(broadcast.broadcast_address)]

    def heard() -> list[str]:
        return inside(listener, "cat /tmp/heard")[1].split()

    listener.exec_run(["python3", "-c", listening], detach=True)
    eventually(lambda: heard() == ["ready"], "it listens")
    for container, word, addresses in (
        (speaker, "neighbour", told),
        (listener, "itself", ["127.0.0.1"]),
    ):
        code, said = container.exec_run(["python3", "-c", speaking, word, *addresses])
        assert code == 0, said
    eventually(lambda: "itself" in heard(), "it hears")
    assert heard() == ["ready", "itself"]


def test_sandboxes_do_not_reach_each_other(
    api: Api, engine: docker.DockerClient, agent: str, neighbour: str
) -> None:
    others = container_of(engine, api, neighbour).attrs
    (network,) = others["NetworkSettings"]["Networks"].values()
    container = container_of(engine, api, agent)
    code, _ = inside(container, f"{REACH} http://{network['IPAddress']}:18789/healthz")
    assert code != 0
    assert inside(container, f"{REACH} http://127.0.0.1:18789/healthz") == (0, "200")


def test_a_sandbox_reaches_the_relay_with_its_token_only_and_not_the_api(
    api: Api, server: ServerProcess, engine: docker.DockerClient, agent: str
) -> None:
    container = container_of(engine, api, agent)
    provider = config_of(container)["models"]["providers"]["chowder-openai"]
    base_url, token = provider["baseUrl"], provider["apiKey"]
    body = """-H 'Content-Type: application/json' -d '{"model":"gpt-4o","input":"Hi"}'"""

    def ask(key: str) -> tuple[int, str]:
        header = f"-H 'Authorization: Bearer {key}'"
        return inside(container, f"{REACH} {header} {body} {base_url}/responses")

    assert ask(token) == (0, "200")
    assert ask(token[:-1] + ("0" if token[-1] != "0" else "1")) == (0, "401")
    assert ask(server.key) == (0, "401")
    assert inside(container, f"{REACH} {body} {base_url}/responses") == (0, "401")
    host = urlsplit(base_url).hostname
    code, _ = inside(container, f"{REACH} http://{host}:{server.port}/local/ready")
    assert code != 0
