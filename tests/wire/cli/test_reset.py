"""`reset` on disk; what it removes on an engine is in tests/docker."""

import io
import json
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from chowder_local.cli import reset as module
from chowder_local.cli.main import run
from chowder_local.cli.reset import own_files
from chowder_local.client.abandoned_runs import organization_facts
from chowder_local.core.data_dir import Lease
from chowder_local.core.settings import Settings
from chowder_local.diagnostics import checks
from chowder_local.engine.store_resources import SweepReport
from tests.wire.cli.conftest import Output, Serve


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings.read({}, data_dir=tmp_path / "data")
    settings.data_dir.mkdir()
    for path in (settings.database_file, settings.lock_file, settings.log_file):
        path.touch()
    settings.database_file.with_name("chowder.db-wal").touch()
    return settings


def reset(settings: Settings, *arguments: str, **env: str) -> int:
    return run(["reset", *arguments], {"CHOWDER_DATA_DIR": str(settings.data_dir), **env})


def test_own_files_are_listed_with_the_lock_last(settings: Settings) -> None:
    (settings.data_dir / "notes.txt").touch()
    names = [path.name for path in own_files(settings)]
    assert names == ["chowder.db", "chowder.db-wal", "server.log", "server.lock"]


def test_without_a_store_only_files_are_removed(settings: Settings, capsys: Output) -> None:
    assert reset(settings, "-y", DOCKER_HOST="unix:///nowhere") == 0
    assert not settings.data_dir.exists()
    assert "and 4 files of" in capsys.readouterr().out


def test_the_keys_of_other_servers_are_kept_and_named(settings: Settings, capsys: Output) -> None:
    other = settings.data_dir / "seed-https-api.example.json"
    other.write_text("{}")
    assert reset(settings, "-y", "--json", DOCKER_HOST="unix:///nowhere") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["kept"] == [str(other)]
    assert f"Kept {other}" in printed.err
    assert other.exists()


def test_files_are_kept_if_the_engine_fails(settings: Settings, capsys: Output) -> None:
    settings.store_file.write_text("s1")
    assert reset(settings, "-y", DOCKER_HOST="unix:///nowhere") == 6
    assert len(own_files(settings)) == 5


def test_the_resources_of_the_data_directorys_store_are_removed(
    settings: Settings, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_store(store_id: str, env: object) -> SweepReport:
        return SweepReport((f"{store_id}-1",), (f"{store_id}-1",), (f"{store_id}-net",))

    monkeypatch.setattr("chowder_local.engine.store_resources.remove_store", remove_store)
    settings.store_file.write_text("s1\n")
    assert reset(settings, "--yes", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["containers"] == report["volumes"] == ["s1-1"]
    assert report["networks"] == ["s1-net"]
    assert str(settings.lock_file) == report["files"][-1]


def test_reset_is_refused_if_a_server_starts_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "stop_running", lambda settings: None)
    with FileLock(settings.lock_file):
        assert reset(settings, "-y") == 4
    assert settings.database_file.exists()


def test_a_file_that_cannot_be_removed_is_named(settings: Settings, capsys: Output) -> None:
    settings.default_key_file.mkdir()
    assert reset(settings, "-y") == 5
    assert "default.key cannot be removed" in capsys.readouterr().err


def test_nothing_is_removed_unless_it_is_confirmed(
    settings: Settings, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert reset(settings) == 1
    assert "Aborted" in capsys.readouterr().err
    assert settings.database_file.exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert reset(settings) == 0
    assert not settings.database_file.exists()


def test_resetting_a_missing_directory_is_no_error(tmp_path: Path, capsys: Output) -> None:
    assert run(["reset"], {"CHOWDER_DATA_DIR": str(tmp_path / "none")}) == 0
    assert "There is nothing" in capsys.readouterr().out
    assert run(["reset", "--json"], {"CHOWDER_DATA_DIR": str(tmp_path / "none")}) == 0
    assert json.loads(capsys.readouterr().out)["files"] == []


def test_files_of_other_programs_are_kept(settings: Settings) -> None:
    (settings.data_dir / "notes.txt").touch()
    assert reset(settings, "-y") == 0
    assert [path.name for path in settings.data_dir.iterdir()] == ["notes.txt"]


ORGANIZATION = {"GET /v1/organization": {"name": "default"}}
REMOVED = {"instances": 2, "keys": 1, "faults": 0, "snapshots": 1}


def test_an_organization_is_reset_by_the_server(serve: Serve, capsys: Output) -> None:
    env, requests = serve({**ORGANIZATION, "POST /local/reset": REMOVED})
    assert run(["reset", "--organization", "-y"], env) == 0
    removed = "2 agents, 1 snapshot, 1 scoped key, 0 faults and all scripted replies of default"
    assert f"Removed {removed}.\n" in capsys.readouterr().out
    assert run(["reset", "--organization", "-y", "--json"], env) == 0
    assert json.loads(capsys.readouterr().out) == REMOVED
    assert [call for call, _ in requests].count("POST /local/reset") == 2
    # The data directory is unchanged.
    assert (Path(env["CHOWDER_DATA_DIR"]) / "default.key").exists()


def test_an_organization_is_reset_only_if_that_is_confirmed(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, requests = serve({**ORGANIZATION, "POST /local/reset": REMOVED})
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert run(["reset", "--organization"], env) == 1
    assert "of the organization default" in capsys.readouterr().err
    assert [call for call, _ in requests] == ["GET /v1/organization"]


def test_abandoned_test_runs_are_named_by_doctor_and_removed(
    serve: Serve, capsys: Output, tmp_path: Path
) -> None:
    env, requests = serve({"POST /local/reset": REMOVED})
    url = json.loads((tmp_path / "server.json").read_text())["base_url"]
    folder = Settings.read(env).leases_dir
    nowhere = "http://127.0.0.1:1"
    for name, root, is_elsewhere in (
        ("pytest gw0", url, False), ("pytest gw1", nowhere, False), ("other", nowhere, True),
    ):  # fmt: skip
        facts = organization_facts(f"{root}/v1", "chd_org_lost", name, is_other_server=is_elsewhere)
        # The lease is dropped, as at the end of its process.
        Lease.take(folder, facts)
    (finding,) = checks.test_runs(Settings.read(env))
    assert "pytest gw0 (process" in finding.words
    assert "chd_org_lost" not in f"{finding}"
    assert run(["reset", "--abandoned", "--json"], env) == 0
    report = json.loads(capsys.readouterr().out)
    # Agents of this data directory are removed at the server's current address.
    assert (sorted(report["removed"]), report["kept"]) == (["pytest gw0", "pytest gw1"], ["other"])
    assert [call for call, _ in requests].count("POST /local/reset") == 2
    (finding,) = checks.test_runs(Settings.read(env))
    assert "other" in finding.words
