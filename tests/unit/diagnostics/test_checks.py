"""What each look at the machine finds, and the cure it names."""

import os
import shutil
import socket
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chowder_local.core.settings import Settings
from chowder_local.diagnostics import checks
from chowder_local.diagnostics.checks import Level
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.engine_facts import EngineFacts

FACTS = EngineFacts(
    address=EngineAddress("unix:///s", "DOCKER_HOST"),
    version="26.1",
    api_version="1.45",
    system="Debian",
    memory_bytes=int(8e9),
    cpu_count=4,
    root_dir="",
    has_memory_limit=True,
    has_pids_limit=True,
)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return Settings.read({}, data_dir=tmp_path / "data", port=port)


def make_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))


def test_versions_name_the_program_and_the_machine() -> None:
    assert "chowder-local" in checks.versions().words


def test_a_data_directory_is_made_by_the_first_start(settings: Settings) -> None:
    (found,) = checks.data_dir(settings)
    assert found.level is Level.OK
    assert "will be made" in found.words


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_data_directory_is_fine_while_its_secrets_are(settings: Settings, mode: int) -> None:
    settings.data_dir.mkdir()
    settings.secret_file.touch(mode=0o600)
    assert [found.level for found in checks.data_dir(settings)] == [Level.OK]
    settings.secret_file.chmod(mode)
    (found,) = checks.data_dir(settings)
    assert found.level is Level.WARN
    assert found.cure == f"chmod go-rwx {settings.secret_file}"


def test_a_data_directory_that_cannot_be_used_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (found,) = checks.data_dir(settings)
    assert (found.level, "cannot be made" in found.words) == (Level.FAIL, True)
    settings.data_dir.mkdir()
    (found,) = checks.data_dir(settings)
    assert (found.level, "cannot be written" in found.words) == (Level.FAIL, True)


@pytest.mark.parametrize(
    ("free", "level", "engine_level"),
    [(1e8, "fail", "fail"), (2e9, "ok", "warn"), (9e9, "ok", "ok")],
)
def test_room_is_looked_for_where_data_and_engine_live(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    level: str,
    engine_level: str,
) -> None:
    make_free(monkeypatch, free)
    facts = replace(FACTS, root_dir=str(settings.data_dir.parent))
    found = list(checks.disk(settings, facts))
    assert [each.level for each in found] == [level, engine_level]


@pytest.mark.parametrize(("free", "level"), [(9e8, "fail"), (2e9, "ok")])
def test_volumes_on_a_disk_of_their_own_are_looked_at_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: float, level: str
) -> None:
    root = settings.data_dir.parent / "engine"
    (root / "volumes").mkdir(parents=True)
    facts = replace(FACTS, root_dir=str(root))
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: Usage(0, 0, free if Path(path).name == "volumes" else 9e9),
    )
    assert "disk, volumes" not in [each.subject for each in checks.disk(settings, facts)]
    on_its_own_disk(root / "volumes", monkeypatch)
    *_, found = checks.disk(settings, facts)
    assert (found.subject, found.level) == ("disk, volumes", level)
    assert str(root / "volumes") in found.words
    assert (found.cure is None) == (level == "ok")


def on_its_own_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if something were mounted there."""
    stat = Path.stat

    def stat_of(path: Path, **options: Any) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result([*found[:2], found.st_dev + (path == folder), *found[3:]])

    monkeypatch.setattr(Path, "stat", stat_of)


def test_a_disk_of_volumes_that_only_root_may_look_at_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = settings.data_dir.parent / "engine"
    root.mkdir()
    facts, folder, stat = replace(FACTS, root_dir=str(root)), root / "volumes", Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if path == folder:
            raise PermissionError
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    mounts = [SimpleNamespace(mountpoint="/")]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: mounts)
    assert "disk, volumes" not in [each.subject for each in checks.disk(settings, facts)]
    mounts.append(SimpleNamespace(mountpoint=str(folder)))
    *_, found = checks.disk(settings, facts)
    assert (found.subject, found.level) == ("disk, volumes", Level.OK)
    assert f"sudo df {folder}" in found.words


@pytest.mark.parametrize("facts", [None, FACTS, replace(FACTS, root_dir="/not/on/this/machine")])
def test_an_engine_on_a_virtual_machine_has_its_disk_out_of_sight(
    settings: Settings, facts: EngineFacts | None
) -> None:
    assert [found.subject for found in checks.disk(settings, facts)] == ["disk, data"]


def test_an_engine_is_named_with_how_it_was_found() -> None:
    (found,) = checks.engine(FACTS)
    assert "26.1" in found.words
    assert "from DOCKER_HOST" in found.words


def test_an_engine_that_cannot_limit_is_a_warning() -> None:
    found = list(checks.engine(replace(FACTS, has_pids_limit=False)))
    assert [each.level for each in found] == [Level.OK, Level.WARN]


@pytest.mark.parametrize(
    ("memory", "running", "level"),
    [(8e9, None, "ok"), (8e9, 3, "ok"), (8e9, 9, "warn"), (2e9, 0, "warn"), (1e9, None, "fail")],
)
def test_memory_is_counted_in_agents(memory: float, running: int | None, level: str) -> None:
    found = checks.memory(replace(FACTS, memory_bytes=int(memory)), running)
    assert found.level == level
    assert (found.cure is None) == (level == "ok")


def test_a_running_server_has_its_ports(settings: Settings) -> None:
    health = {"base_url": "http://h:1", "relay": {"url": "http://relay:2"}}
    words = [found.words for found in checks.ports(settings, health)]
    assert "http://h:1" in words[0]
    assert "http://relay:2" in words[1]


def test_a_port_of_another_program_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(checks, "RELAY_PORT", unused.getsockname()[1])
    assert [found.level for found in checks.ports(settings, None)] == ["ok", "ok"]
    with socket.create_server(("127.0.0.1", settings.port)):
        api, _ = checks.ports(settings, None)
    assert api.level is Level.FAIL
    assert "already in use" in api.words
    assert "--port" in str(api.cure)


def test_a_relay_port_that_is_taken_is_only_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(checks, "RELAY_PORT", other.getsockname()[1])
        _, relay = checks.ports(settings, None)
    assert relay.level is Level.WARN


def test_a_host_that_is_none_is_a_failure(settings: Settings) -> None:
    other = settings.model_copy(update={"host": "host.invalid"})
    assert next(iter(checks.ports(other, None))).level is Level.FAIL
