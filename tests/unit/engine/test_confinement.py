"""Firewall rules are checked once for each start of a sandbox, and installed at its boot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from docker.errors import APIError

from chowder_local.core.domain import Egress, SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EgressUnavailable, EngineUnavailable
from chowder_local.engine.networks import SandboxNetwork, SandboxNetworks
from chowder_local.engine.specs import ConfinementChecks, confine

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

CLOSED = SandboxInfo(SandboxId("chowder-1"), SandboxState.RUNNING, egress=Egress.OFF)
ROW = {"Id": "c1"}


class Api:
    """The SDK's API for one container; `is_marked` is whether rules are in force in it."""

    def __init__(self) -> None:
        self.is_marked = True
        self.start = "10:00"
        self.check_count = 0
        self.failing = ""

    def _fail(self, call: str) -> None:
        if self.failing == call:
            raise APIError("gone")

    def inspect_container(self, _: str) -> dict[str, Any]:
        self._fail("inspect")
        return {"Id": "c1", "State": {"StartedAt": self.start}}

    def exec_create(self, *_: Any) -> dict[str, str]:
        self._fail("exec")
        self.check_count += 1
        return {"Id": "e1"}

    def exec_start(self, _: str) -> bytes:
        return b""

    def exec_inspect(self, _: str) -> dict[str, int]:
        return {"ExitCode": 0 if self.is_marked else 1}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def confined(api: Api) -> ConfinementChecks:
    return ConfinementChecks(cast("docker.DockerClient", SimpleNamespace(api=api)))


def test_each_start_is_checked_once(api: Api, confined: ConfinementChecks) -> None:
    assert confined.check_row(CLOSED, ROW).is_confined
    assert confined.check_row(CLOSED, ROW).is_confined
    assert api.check_count == 1
    api.start = "11:00"
    assert confined.check(CLOSED, api.inspect_container("c1")).is_confined
    assert api.check_count == 2


def test_a_sandbox_started_by_another_program_is_reported_as_unconfined(
    api: Api, confined: ConfinementChecks
) -> None:
    confined.mark(cast("Container", SimpleNamespace(id="c1", attrs=api.inspect_container("c1"))))
    api.start, api.is_marked = "11:00", False
    assert not confined.check_row(CLOSED, ROW).is_confined
    assert not confined.check_row(CLOSED, ROW).is_confined


def test_a_sandbox_that_was_just_confined_is_not_checked(
    api: Api, confined: ConfinementChecks
) -> None:
    confined.mark(cast("Container", SimpleNamespace(id="c1", attrs=api.inspect_container("c1"))))
    assert confined.check_row(CLOSED, ROW).is_confined
    assert api.check_count == 0
    confined.forget_all_but([])
    assert confined.check_row(CLOSED, ROW).is_confined
    assert api.check_count == 1


@pytest.mark.parametrize("call", ["inspect", "exec"])
def test_a_sandbox_that_ends_during_the_check_stays_as_it_is(
    api: Api, confined: ConfinementChecks, call: str
) -> None:
    api.is_marked, api.failing = False, call
    assert confined.check_row(CLOSED, ROW) == CLOSED


@pytest.mark.parametrize(
    "info",
    [
        SandboxInfo(SandboxId("chowder-1"), SandboxState.RUNNING, egress=Egress.ON),
        SandboxInfo(SandboxId("chowder-1"), SandboxState.PAUSED, egress=Egress.OFF),
    ],
)
def test_a_sandbox_with_egress_or_not_running_is_not_checked(
    api: Api, confined: ConfinementChecks, info: SandboxInfo
) -> None:
    api.failing = "inspect"
    assert confined.check_row(info, ROW) == info
    assert confined.check(info, {}) == info


def test_on_a_joined_network_sandboxes_with_egress_are_checked_too(
    api: Api, confined: ConfinementChecks
) -> None:
    api.is_marked = False
    info = SandboxInfo(SandboxId("chowder-1"), SandboxState.RUNNING, egress=Egress.ON)
    networks: dict[str, Any] = {"NetworkSettings": {"Networks": {"chowder-s-joined": {}}}}
    assert not confined.check(info, api.inspect_container("c1") | networks).is_confined
    networks = {"NetworkSettings": {"Networks": {"chowder-s": {}}}}
    assert confined.check(info, api.inspect_container("c1") | networks).is_confined


def test_a_sandbox_without_its_rules_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def refuse(*arguments: Any) -> tuple[bool, str]:
        calls.append(arguments[2:])
        return False, "Traceback\nOSError: the kernel refuses the rules"

    monkeypatch.setattr("chowder_local.engine.specs.run_privileged", refuse)
    network = SandboxNetwork(
        "n", "172.22.255.254", "172.22.255.254", ("172.22.0.0/16", "172.22.0.1")
    )
    networks = SandboxNetworks(network, network, joined_by="c0ffee")
    nothing: Any = None
    with pytest.raises(EngineUnavailable, match=r"from each other.*refuses the rules"):
        confine(nothing, nothing, networks, Egress.ON, 2470)
    with pytest.raises(EgressUnavailable, match="refuses the rules"):
        confine(nothing, nothing, networks, Egress.OFF, 2470)
    opened, closed = calls
    assert opened == (*closed, "172.22.0.0/16")
    assert closed[:4] == ("confine.py", "172.22.255.254", "2470", "18789")
