"""Which sandboxes are confined, asked of the engine no oftener than it can have changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from docker.errors import APIError

from chowder_local.core.domain import Egress, SandboxId, SandboxInfo, SandboxState
from chowder_local.core.errors.sandboxes import EgressUnavailable, EngineUnavailable
from chowder_local.engine.confinement import Confined, confine
from chowder_local.engine.networks import SandboxNetwork, SandboxNetworks

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

CLOSED = SandboxInfo(SandboxId("chowder-1"), SandboxState.RUNNING, egress=Egress.OFF)
ROW = {"Id": "c1"}


class Api:
    """The engine's, of one container; `is_marked` is whether the rules are in force in it."""

    def __init__(self) -> None:
        self.is_marked = True
        self.start = "10:00"
        self.asked = 0
        self.failing = ""

    def _fail(self, call: str) -> None:
        if self.failing == call:
            raise APIError("gone")

    def inspect_container(self, _: str) -> dict[str, Any]:
        self._fail("inspect")
        return {"Id": "c1", "State": {"StartedAt": self.start}}

    def exec_create(self, *_: Any) -> dict[str, str]:
        self._fail("exec")
        self.asked += 1
        return {"Id": "e1"}

    def exec_start(self, _: str) -> bytes:
        return b""

    def exec_inspect(self, _: str) -> dict[str, int]:
        return {"ExitCode": 0 if self.is_marked else 1}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def confined(api: Api) -> Confined:
    return Confined(cast("docker.DockerClient", SimpleNamespace(api=api)))


def test_each_start_is_looked_at_once(api: Api, confined: Confined) -> None:
    assert confined.checked_row(CLOSED, ROW).is_confined
    assert confined.checked_row(CLOSED, ROW).is_confined
    assert api.asked == 1
    api.start = "11:00"
    assert confined.checked(CLOSED, api.inspect_container("c1")).is_confined
    assert api.asked == 2


def test_one_that_was_started_by_somebody_else_is_told_until_it_is_gone(
    api: Api, confined: Confined
) -> None:
    confined.mark(cast("Container", SimpleNamespace(id="c1", attrs=api.inspect_container("c1"))))
    api.start, api.is_marked = "11:00", False
    assert not confined.checked_row(CLOSED, ROW).is_confined
    assert not confined.checked_row(CLOSED, ROW).is_confined


def test_what_we_have_confined_ourselves_needs_no_look(api: Api, confined: Confined) -> None:
    confined.mark(cast("Container", SimpleNamespace(id="c1", attrs=api.inspect_container("c1"))))
    assert confined.checked_row(CLOSED, ROW).is_confined
    assert api.asked == 0
    confined.forget_all_but([])
    assert confined.checked_row(CLOSED, ROW).is_confined
    assert api.asked == 1


@pytest.mark.parametrize("call", ["inspect", "exec"])
def test_one_that_goes_meanwhile_is_left_to_the_next_look(
    api: Api, confined: Confined, call: str
) -> None:
    api.is_marked, api.failing = False, call
    assert confined.checked_row(CLOSED, ROW) == CLOSED


@pytest.mark.parametrize(
    "info",
    [
        SandboxInfo(SandboxId("chowder-1"), SandboxState.RUNNING, egress=Egress.ON),
        SandboxInfo(SandboxId("chowder-1"), SandboxState.PAUSED, egress=Egress.OFF),
    ],
)
def test_what_has_egress_or_does_not_run_is_not_looked_at(
    api: Api, confined: Confined, info: SandboxInfo
) -> None:
    api.failing = "inspect"
    assert confined.checked_row(info, ROW) == info
    assert confined.checked(info, {}) == info


def test_beside_a_server_in_a_container_those_with_egress_are_looked_at_as_well(
    api: Api, confined: Confined
) -> None:
    api.is_marked = False
    info = SandboxInfo(SandboxId("chowder-1"), SandboxState.RUNNING, egress=Egress.ON)
    networks: dict[str, Any] = {"NetworkSettings": {"Networks": {"chowder-s-joined": {}}}}
    assert not confined.checked(info, api.inspect_container("c1") | networks).is_confined
    networks = {"NetworkSettings": {"Networks": {"chowder-s": {}}}}
    assert confined.checked(info, api.inspect_container("c1") | networks).is_confined


def test_what_is_not_kept_from_its_neighbours_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def refused(*words: Any) -> tuple[bool, str]:
        asked.append(words[2:])
        return False, "Traceback\nOSError: the kernel does not take the rules"

    monkeypatch.setattr("chowder_local.engine.confinement.run_privileged", refused)
    place = SandboxNetwork("n", "172.22.255.254", "172.22.255.254", ("172.22.0.0/16", "172.22.0.1"))
    networks = SandboxNetworks(place, place, joined_by="c0ffee")
    nothing: Any = None
    with pytest.raises(EngineUnavailable, match=r"from its neighbours.*does not take the rules"):
        confine(nothing, nothing, networks, Egress.ON, 2470)
    with pytest.raises(EgressUnavailable, match="does not take the rules"):
        confine(nothing, nothing, networks, Egress.OFF, 2470)
    opened, closed = asked
    assert opened == (*closed, "172.22.0.0/16")
    assert closed[:4] == ("confine.py", "172.22.255.254", "2470", "18789")
