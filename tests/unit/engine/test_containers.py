"""Parsing what Docker reports of a container as a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from chowder_local.core.domain import Egress, SandboxId, SandboxState
from chowder_local.engine.containers import list_commands, parse_container, parse_row

if TYPE_CHECKING:
    from docker.models.containers import Container

ID = SandboxId("chowder-3f9c0a1b2c3d")
OPEN = {"chowder-store": {"IPAddress": "172.20.0.2"}}
CLOSED = {"chowder-store-closed": {"IPAddress": "172.21.0.2"}}
JOINED = {"chowder-store-joined": {"IPAddress": "172.22.0.2"}}
JOINED_CLOSED = {"chowder-store-joined-closed": {"IPAddress": "172.23.0.2"}}
GONE = {"chowder-store-closed": {"IPAddress": ""}}
PORTS = {"18789/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}


def inspected(ports: dict[str, Any], networks: dict[str, Any] | None) -> dict[str, Any]:
    state = {"Status": "running", "ExitCode": 0, "OOMKilled": False}
    return {
        "State": state,
        "HostConfig": {"Memory": 640 * 1024 * 1024},
        "NetworkSettings": {"Ports": ports, "Networks": networks},
    }


def listed(port: int | None, networks: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "State": "running",
        "Labels": {"dev.chowder-local.sandbox": ID},
        "Ports": [] if port is None else [{"PublicPort": port}],
        "NetworkSettings": {"Networks": networks},
    }


@pytest.mark.parametrize(
    ("port", "networks", "url", "egress"),
    [
        (32768, OPEN, "http://127.0.0.1:32768", Egress.ON),
        (None, OPEN, None, Egress.ON),
        (None, CLOSED, "http://172.21.0.2:18789", Egress.OFF),
        (None, GONE, None, Egress.OFF),
        (None, JOINED, "http://172.22.0.2:18789", Egress.ON),
        (None, JOINED_CLOSED, "http://172.23.0.2:18789", Egress.OFF),
        # One more network is a way out; a container without networks does not count as closed.
        (None, CLOSED | OPEN, "http://172.21.0.2:18789", Egress.ON),
        (None, {}, None, Egress.ON),
        (None, None, None, Egress.ON),
    ],
)
def test_the_gateways_url_and_the_egress_follow_from_the_networks(
    port: int | None, networks: dict[str, Any] | None, url: str | None, egress: Egress
) -> None:
    one = parse_container(ID, inspected({} if port is None else PORTS, networks))
    assert (one.gateway_url, one.egress, one.state) == (url, egress, SandboxState.RUNNING)
    assert one.memory_limit_mb == 640
    row = parse_row(listed(port, networks))
    assert row is not None
    assert (row.gateway_url, row.egress, row.id) == (url, egress, ID)


def test_an_unknown_state_counts_as_running() -> None:
    info = parse_row(listed(32768, OPEN) | {"State": "improving"})
    assert info is not None
    assert info.state is SandboxState.RUNNING


def test_a_container_without_a_sandbox_label_is_no_sandbox() -> None:
    assert parse_row({"Labels": {}, "State": "running"}) is None


class Listed:
    """A container, and what an engine lists of its processes."""

    def __init__(self, *rows: list[str]) -> None:
        self.attrs = {"State": {"Pid": 32766}}
        self._rows = rows

    def top(self) -> dict[str, Any]:
        return {"Titles": ["UID", "PID", "CMD"], "Processes": [*self._rows]}


@pytest.mark.parametrize("number", ["32766", "1"])
def test_the_containers_own_process_is_the_first_even_if_its_number_is_the_highest(
    number: str,
) -> None:
    own, gateway = ["root", number, "docker-init"], ["root", "301", "openclaw"]
    for rows in ([gateway, own], [own, gateway]):
        assert list_commands(cast("Container", Listed(*rows))) == ["docker-init", "openclaw"]
