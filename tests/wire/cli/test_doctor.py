"""`doctor` on machines with and without an engine, an image and a server."""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from chowder_local.cli import doctor as module
from chowder_local.cli.doctor import examine
from chowder_local.cli.main import run
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.diagnostics.checks import Finding, Level
from chowder_local.engine.store_resources import SweepReport
from chowder_local.openclaw.shortcuts import SHORTCUTS
from tests.scripted.engine import OBSERVATIONS
from tests.unit.diagnostics.test_checks import FACTS
from tests.wire.cli.conftest import Output, Serve

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere.sock"}


def by_subject(found: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in found}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chowder_local.engine.engine_facts.ask_engine", lambda env: FACTS)


def put_image(
    monkeypatch: pytest.MonkeyPatch, answer: bool | Exception, seen: bytes | None = OBSERVATIONS
) -> None:
    def is_there(tag: str, env: object) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("chowder_local.engine.images.is_there", is_there)
    monkeypatch.setattr("chowder_local.engine.images.read_file", lambda tag, path, env: seen)


def test_a_missing_engine_is_a_failure_with_a_remedy(tmp_path: Path, capsys: Output) -> None:
    assert run(["doctor"], {**NO_ENGINE, "CHOWDER_DATA_DIR": str(tmp_path)}) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("FAIL  engine")]
    assert "unix:///nowhere.sock (from DOCKER_HOST) does not answer" in line
    assert "Docker Desktop" in line


def test_every_finding_as_json_has_the_same_fields(tmp_path: Path, capsys: Output) -> None:
    assert run(["doctor", "--json"], {**NO_ENGINE, "CHOWDER_DATA_DIR": str(tmp_path)}) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert {frozenset(each) for each in report["findings"]} == {
        frozenset({"subject", "level", "words", "cure"})
    }


@pytest.mark.usefixtures("engine")
def test_a_healthy_machine_has_only_ok_findings(
    serve: Serve, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(monkeypatch, True)
    health = {"status": "ok", "version": "0.1.0", "pid": os.getpid(), "instances": {"running": 2}}
    env, _ = serve({"GET /local/health": health})
    assert run(["doctor"], env) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    assert f"ok    server: 0.1.0 runs as process {os.getpid()}" in lines
    assert any("2 running" in line for line in lines)


@pytest.mark.usefixtures("engine")
def test_a_missing_image_has_a_remedy_for_its_kind(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(monkeypatch, False)
    settings = Settings.read({}, data_dir=tmp_path)
    found = by_subject(list(examine(settings, {})))["image"]
    assert (found.level, "'up' builds it" in str(found.cure)) == (Level.WARN, True)
    found = by_subject(list(examine(settings.model_copy(update={"image": "my/image"}), {})))[
        "image"
    ]
    assert (found.level, found.cure) == (Level.FAIL, "docker pull my/image")
    put_image(monkeypatch, EngineUnavailable("gone meanwhile"))
    found = by_subject(list(examine(settings, {})))["image"]
    assert (found.level, found.words) == (Level.FAIL, "gone meanwhile")
    # As text, a remedy is on a line of its own.
    put_image(monkeypatch, False)
    run(["doctor"], {"CHOWDER_DATA_DIR": str(tmp_path)})
    assert "      → 'up' builds it" in capsys.readouterr().out


@pytest.mark.usefixtures("engine")
def test_an_image_that_does_not_say_what_its_openclaw_is_like_is_told_by_each_shortcut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(monkeypatch, True, seen=None)
    findings = examine(Settings.read({}, data_dir=tmp_path), {})
    off = [each for each in findings if each.subject == "shortcut"]
    assert len(off) == len([each for each in SHORTCUTS if each.misfit is not None])
    assert {each.level for each in off} == {Level.WARN}


def test_a_server_whose_engine_is_gone_is_a_failure(serve: Serve) -> None:
    health = {"status": "degraded", "engine": {"reachable": False, "error": "no socket"}}
    env, _ = serve({"GET /local/health": health})
    found = by_subject(
        list(examine(Settings.read({"CHOWDER_DATA_DIR": env["CHOWDER_DATA_DIR"]}), NO_ENGINE))
    )
    assert (found["server"].level, found["server"].words) == (Level.FAIL, "degraded: no socket")


def test_a_stopped_a_dead_and_a_hanging_server_have_different_findings(
    tmp_path: Path,
) -> None:
    settings = Settings.read({}, data_dir=tmp_path)

    def server() -> Finding:
        return module._server(settings)[1]

    assert server().words == "not running; 'up --detach' starts it"
    with FileLock(settings.lock_file):
        assert server().level is Level.WARN
    settings.run_file.write_text('{"pid": 1, "base_url": "http://127.0.0.1:1", "version": "1"}')
    assert "ended unexpectedly" in server().words
    with FileLock(settings.lock_file):
        assert (server().level, "server.log" in str(server().cure)) == (Level.FAIL, True)


@pytest.mark.usefixtures("engine")
def test_providers_are_those_of_the_environment_and_of_the_server_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(monkeypatch, True)
    nowhere = "http://127.0.0.1:9/v1"
    settings = Settings.read({"CHOWDER_PROVIDERS": f"lab={nowhere}"}, data_dir=tmp_path)
    facts = {"pid": 7, "base_url": nowhere, "version": "1", "providers": {"far": nowhere}}
    settings.run_file.write_text(json.dumps(facts))
    found = by_subject(list(examine(settings, {"OLLAMA_HOST": "127.0.0.1:9"})))
    assert found["provider lab"].level is Level.WARN
    assert found["provider far"].level is Level.WARN
    assert found["provider ollama"].words == f"not running at {nowhere}; models ollama/… need it"


@pytest.mark.usefixtures("engine")
def test_what_is_left_of_agents_whose_database_is_lost_is_listed(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(monkeypatch, True)

    def list_store(store_id: str, env: object) -> SweepReport:
        return SweepReport((f"of-{store_id}",), ("home-1", "home-2"), ())

    monkeypatch.setattr("chowder_local.engine.store_resources.list_store", list_store)
    (tmp_path / "snapshots").mkdir()
    for name in ("chowder.db", "default.key", "snapshots/s1"):
        (tmp_path / name).touch(mode=0o600)
    (tmp_path / "store.id").write_text("s1")
    env = {"CHOWDER_DATA_DIR": str(tmp_path)}
    assert run(["doctor"], env) == 1
    printed = capsys.readouterr().out
    assert f"data directory: {tmp_path}/chowder.db is missing or empty" in printed
    assert (
        "what is left: containers: of-s1; volumes: home-1, home-2; snapshots: s1; "
        "files: chowder.db, default.key, store.id"
    ) in printed
    monkeypatch.undo()
    assert run(["doctor"], env | NO_ENGINE) == 1
    assert "snapshots: s1; files: chowder.db, default.key, store.id; " in capsys.readouterr().out
