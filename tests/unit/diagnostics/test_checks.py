"""The findings of each check of the machine, and their cures."""

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
from chowder_local.openclaw.shortcuts import STATE_TRANSFER, TRANSCRIPTS

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


def test_a_runtime_that_the_engine_lacks_is_a_failure_that_names_those_it_has() -> None:
    facts = replace(FACTS, runtimes=("runc", "runsc"))
    assert checks.runtime("runsc", facts).level is Level.OK
    finding = checks.runtime("kata", facts)
    assert finding.level is Level.FAIL
    assert "runc, runsc" in finding.words


def test_a_missing_data_directory_is_fine(settings: Settings) -> None:
    (finding,) = checks.data_dir(settings)
    assert finding.level is Level.OK
    assert "will create" in finding.words


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_secrets_that_other_users_can_read_are_a_warning(settings: Settings, mode: int) -> None:
    settings.data_dir.mkdir()
    settings.secret_file.touch(mode=0o600)
    assert [finding.level for finding in checks.data_dir(settings)] == [Level.OK]
    settings.secret_file.chmod(mode)
    (finding,) = checks.data_dir(settings)
    assert finding.level is Level.WARN
    assert finding.cure == f"chmod go-rwx {settings.secret_file}"


def test_a_data_directory_that_cannot_be_used_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (finding,) = checks.data_dir(settings)
    assert (finding.level, "cannot be created" in finding.words) == (Level.FAIL, True)
    settings.data_dir.mkdir()
    (finding,) = checks.data_dir(settings)
    assert (finding.level, "cannot be written" in finding.words) == (Level.FAIL, True)


@pytest.mark.parametrize(
    ("free", "level", "engine_level"),
    [(1e8, "fail", "fail"), (2e9, "ok", "warn"), (9e9, "ok", "ok")],
)
def test_free_space_is_checked_for_the_data_and_the_engine(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    free: float,
    level: str,
    engine_level: str,
) -> None:
    make_free(monkeypatch, free)
    facts = replace(FACTS, root_dir=str(settings.data_dir.parent))
    findings = list(checks.disk(settings, facts))
    assert [each.level for each in findings] == [level, engine_level]


@pytest.mark.parametrize(("free", "level"), [(9e8, "fail"), (2e9, "ok")])
def test_volumes_on_a_separate_disk_are_checked_there(
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
    *_, finding = checks.disk(settings, facts)
    assert (finding.subject, finding.level) == ("disk, volumes", level)
    assert str(root / "volumes") in finding.words
    assert (finding.cure is None) == (level == "ok")


def on_its_own_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the folder look like a mount point."""
    stat = Path.stat

    def stat_of(path: Path, **options: Any) -> os.stat_result:
        status = stat(path, **options)
        device = status.st_dev + (path == folder)
        return os.stat_result([*status[:2], device, *status[3:]])

    monkeypatch.setattr(Path, "stat", stat_of)


def test_a_separate_disk_that_only_root_can_check_is_named(
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
    *_, finding = checks.disk(settings, facts)
    assert (finding.subject, finding.level) == ("disk, volumes", Level.OK)
    assert f"sudo df {folder}" in finding.words


@pytest.mark.parametrize("facts", [None, FACTS, replace(FACTS, root_dir="/not/on/this/machine")])
def test_the_disk_of_an_engine_on_a_virtual_machine_is_not_checked(
    settings: Settings, facts: EngineFacts | None
) -> None:
    assert [finding.subject for finding in checks.disk(settings, facts)] == ["disk, data"]


def test_the_engines_finding_has_its_version_and_source() -> None:
    (finding,) = checks.engine(FACTS)
    assert "26.1" in finding.words
    assert "from DOCKER_HOST" in finding.words


def test_an_engine_without_limits_is_a_warning() -> None:
    findings = list(checks.engine(replace(FACTS, has_pids_limit=False)))
    assert [each.level for each in findings] == [Level.OK, Level.WARN]


@pytest.mark.parametrize(
    ("memory", "running", "level"),
    [(8e9, None, "ok"), (8e9, 3, "ok"), (8e9, 9, "warn"), (2e9, 0, "warn"), (1e9, None, "fail")],
)
def test_memory_is_counted_in_agents(memory: float, running: int | None, level: str) -> None:
    finding = checks.memory(replace(FACTS, memory_bytes=int(memory)), running)
    assert finding.level == level
    assert (finding.cure is None) == (level == "ok")


def test_the_ports_of_a_running_server_are_named(settings: Settings) -> None:
    health = {"base_url": "http://h:1", "relay": {"url": "http://relay:2"}}
    words = [finding.words for finding in checks.ports(settings, health)]
    assert "http://h:1" in words[0]
    assert "http://relay:2" in words[1]


def test_a_port_of_another_program_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(checks, "RELAY_PORT", unused.getsockname()[1])
    assert [finding.level for finding in checks.ports(settings, None)] == ["ok", "ok"]
    with socket.create_server(("127.0.0.1", settings.port)):
        api, _ = checks.ports(settings, None)
    assert api.level is Level.FAIL
    assert "already in use" in api.words
    assert "--port" in str(api.cure)


def test_a_relay_port_in_use_is_only_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(checks, "RELAY_PORT", other.getsockname()[1])
        _, relay = checks.ports(settings, None)
    assert relay.level is Level.WARN


def test_an_unknown_host_is_a_failure(settings: Settings) -> None:
    other = settings.model_copy(update={"host": "host.invalid"})
    assert next(iter(checks.ports(other, None))).level is Level.FAIL


def test_each_shortcut_that_is_off_has_a_line_with_the_plain_way() -> None:
    off = {STATE_TRANSFER.name: "no table schema_meta", TRANSCRIPTS.name: "no table session_nodes"}
    findings = list(checks.shortcuts(off, "2026.9.6"))
    assert [(each.subject, each.level) for each in findings] == [("shortcut", Level.WARN)] * 2
    for shortcut, finding in zip((STATE_TRANSFER, TRANSCRIPTS), findings, strict=True):
        assert shortcut.name in finding.words
        assert shortcut.plain_way in finding.words
        assert off[shortcut.name] in finding.words
        assert finding.cure is not None


@pytest.mark.parametrize(("version", "level"), [("2026.9.6", "ok"), ("2027.1.1", "warn")])
def test_if_all_fit_one_line_says_whether_that_is_proved(version: str, level: str) -> None:
    (finding,) = checks.shortcuts({}, version)
    assert (finding.subject, finding.level) == ("shortcuts", level)
    assert version in finding.words
