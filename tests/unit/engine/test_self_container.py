"""Finding the container of this process from its mounts, its hostname and the engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from docker.errors import NotFound

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine import connection, engine_facts
from chowder_local.engine import self_container as module
from chowder_local.engine.engine_facts import check_own_container
from chowder_local.engine.self_container import own_container, possible_names

if TYPE_CHECKING:
    from pathlib import Path

    import docker

ID = "0123456789abcdef" * 4
MOUNTS = f"""\
600 500 0:45 / / rw,relatime - overlay overlay rw,lowerdir=/x/{"a" * 64}/l
601 600 254:1 /docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw
602 600 254:1 /docker/volumes/{"b" * 64}/_data /data rw - ext4 /dev/vda1 rw
"""


class Engine:
    """An engine with some containers; `bridges` are the names of its networks' bridges."""

    def __init__(self, *names: str, mode: str = "bridge", bridges: tuple[str, ...] = ()) -> None:
        self.names = names
        self.mode = mode
        self.api = self
        self.networks = SimpleNamespace(list=lambda: [
            SimpleNamespace(attrs={"Options": {"com.docker.network.bridge.name": each}})
            for each in bridges
        ])  # fmt: skip

    def inspect_container(self, name: str) -> dict[str, Any]:
        if name not in self.names:
            raise NotFound("no such container")
        return {"Id": ID, "HostConfig": {"NetworkMode": self.mode}}


def find(engine: Engine) -> str | None:
    return own_container(cast("docker.DockerClient", engine))


@pytest.fixture(autouse=True)
def _within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the process look like one in a container."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(module, "is_in_container", lambda: True)
    monkeypatch.setattr("socket.gethostname", lambda: ID[:12])


def test_the_mounts_name_the_container_before_the_hostname_does() -> None:
    assert list(possible_names(MOUNTS, ID[:12])) == [ID, ID[:12]]
    assert list(possible_names(MOUNTS, "my-server")) == [ID]
    assert list(possible_names("", "my-server")) == []


@pytest.mark.parametrize("known", [ID, ID[:12]])
def test_the_first_name_that_the_engine_has_is_used(known: str) -> None:
    assert find(Engine(known)) == ID


def test_a_container_with_the_hosts_network_counts_as_the_host() -> None:
    assert find(Engine(ID, mode="host")) is None


def test_an_engine_in_the_same_container_counts_as_one_on_the_host() -> None:
    assert find(Engine(bridges=("not-there", "lo"))) is None


def test_an_engine_of_other_containers_is_refused_with_a_remedy() -> None:
    with pytest.raises(EngineUnavailable, match=r"docker\.sock"):
        find(Engine(bridges=("not-there",)))


def test_the_check_closes_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    engine = Engine(bridges=("not-there",))
    monkeypatch.setattr(engine, "close", lambda: closed.append(True), raising=False)
    monkeypatch.setattr(connection, "find_engine", lambda _: None)
    monkeypatch.setattr(connection, "open_client", lambda *_: engine)
    monkeypatch.setattr(engine_facts, "is_in_container", lambda: True)
    with pytest.raises(EngineUnavailable, match="does not run"):
        check_own_container({})
    assert closed == [True]
    monkeypatch.setattr(engine_facts, "is_in_container", lambda: False)
    check_own_container({})
    assert closed == [True]


def test_on_the_host_the_engine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_in_container", lambda: False)
    assert find(Engine(ID)) is None
