"""`down`, `status` and `env` against a scripted server, or none."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from chowder_local.cli.main import run
from tests.wire.cli.conftest import Output, Serve

HEALTH: dict[str, Any] = {
    "status": "ok",
    "version": "0.1.0",
    "openclaw_version": "2026.9.6",
    "base_url": "http://elsewhere",
    "engine": {"reachable": True, "version": "Docker 26"},
    "instances": {"running": 2, "error": 1, "stopped": 0, "terminated": 7},
    "pool": {"ready": 1, "size": 2},
}


def test_status_prints_the_health_as_lines(serve: Serve, capsys: Output) -> None:
    env, _ = serve({"GET /local/health": HEALTH})
    assert run(["status"], env) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Engine     Docker 26" in lines
    assert "Agents     2 running, 1 error" in lines
    assert "Warm pool  1 of 2 ready" in lines


def test_status_says_why_the_engine_is_down(serve: Serve, capsys: Output) -> None:
    engine = {"reachable": False, "error": "gone"}
    env, _ = serve({"GET /local/health": {"status": "degraded", "engine": engine}})
    assert run(["status"], env) == 0
    assert "Engine     down: gone" in capsys.readouterr().out


def test_status_as_json_has_the_base_url_for_clients(serve: Serve, capsys: Output) -> None:
    env, _ = serve({"GET /local/health": HEALTH})
    assert run(["status", "--json"], env) == 0
    health = json.loads(capsys.readouterr().out)
    assert health["base_url"].startswith("http://127.0.0.1:")
    assert health["base_url"].endswith("/v1")
    assert health["version"] == "0.1.0"


def test_status_without_a_server_is_a_failure(tmp_path: Path, capsys: Output) -> None:
    env = {"CHOWDER_DATA_DIR": str(tmp_path)}
    assert run(["status"], env) == 1
    assert "up --detach" in capsys.readouterr().err
    assert run(["status", "--json"], env) == 1
    assert json.loads(capsys.readouterr().out) == {"status": "stopped", "data_dir": str(tmp_path)}


def test_a_server_that_was_killed_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(
        '{"pid": 1, "base_url": "http://127.0.0.1:1", "version": "1"}'
    )
    assert run(["status"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 1


def test_status_of_a_starting_server_says_so(tmp_path: Path, capsys: Output) -> None:
    with FileLock(tmp_path / "server.lock"):
        assert run(["status"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 1
    assert "is starting" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "prefix"), [((), "export "), (("--format", "dotenv"), "")], ids=["shell", "dotenv"]
)
def test_env_prints_what_to_export(
    serve: Serve, capsys: Output, form: tuple[str, ...], prefix: str
) -> None:
    env, _ = serve({})
    assert run(["env", *form], env) == 0
    printed, notes = capsys.readouterr()
    url, key, data_dir = printed.splitlines()
    assert url.startswith(f"{prefix}CHOWDER_BASE_URL=http://127.0.0.1:")
    assert url.endswith("/v1")
    assert key == f"{prefix}CHOWDER_KEY=chd_org_k"
    assert data_dir == f"{prefix}CHOWDER_DATA_DIR={env['CHOWDER_DATA_DIR']}"
    assert notes == ""


def test_what_env_prints_for_a_data_directory_is_enough_for_the_other_commands(
    serve: Serve, capsys: Output
) -> None:
    env, _ = serve({"GET /local/health": HEALTH})
    folder = env.pop("CHOWDER_DATA_DIR")
    assert run(["--data-dir", folder, "env", "--format", "json"], env) == 0
    env |= json.loads(capsys.readouterr().out)
    assert run(["dashboard"], env) == 0
    assert capsys.readouterr().out.startswith(env["CHOWDER_BASE_URL"].removesuffix("v1"))
    run(["doctor", "--json"], {**env, "DOCKER_HOST": "unix:///nowhere.sock"})
    findings = {each["subject"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert "environment" not in findings
    assert f"runs as process {HEALTH.get('pid')}" in findings["server"]["words"]


def test_env_leaves_out_the_data_directory_of_a_server_in_a_container(
    serve: Serve, tmp_path: Path, capsys: Output
) -> None:
    env, _ = serve({})
    facts = json.loads((tmp_path / "server.json").read_bytes())
    (tmp_path / "server.json").write_text(json.dumps({**facts, "public_url": "http://h:3000"}))
    assert run(["env", "--format", "json"], env) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"CHOWDER_BASE_URL": "http://h:3000/v1", "CHOWDER_KEY": "chd_org_k"}


def test_env_without_a_server_prints_the_url_of_the_settings_and_a_remark(
    tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "default.key").write_text("k")
    env = {"CHOWDER_DATA_DIR": str(tmp_path), "CHOWDER_PORT": "77"}
    assert run(["env", "--format", "json"], env) == 0
    printed, notes = capsys.readouterr()
    assert json.loads(printed) == {
        "CHOWDER_BASE_URL": "http://127.0.0.1:77/v1",
        "CHOWDER_KEY": "k",
        "CHOWDER_DATA_DIR": str(tmp_path),
    }
    assert "does not run" in notes


def test_env_before_the_first_start_prints_nothing_to_eval(tmp_path: Path, capsys: Output) -> None:
    assert run(["env"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 1
    assert capsys.readouterr().out == ""


def test_down_without_a_server_does_nothing(tmp_path: Path, capsys: Output) -> None:
    assert run(["down"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 0
    assert "No server runs" in capsys.readouterr().out


def test_down_waits_until_the_server_releases_its_lock(
    serve: Serve, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, _ = serve({})
    lock = FileLock(tmp_path / "server.lock")
    lock.acquire()
    told: list[int] = []

    def kill(pid: int, number: int) -> None:
        told.append(number)
        lock.release()

    monkeypatch.setattr(os, "kill", kill)
    assert run(["down"], env) == 0
    assert told == [signal.SIGTERM]
    assert f"stopped (process {os.getpid()})" in capsys.readouterr().out


def test_down_names_no_process_if_the_server_ended_meanwhile(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chowder_local.cli.server.is_locked", lambda settings: True)
    assert run(["down"], {"CHOWDER_DATA_DIR": str(tmp_path)}) == 0
    assert "The server is stopped. " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["down"], ["reset", "--yes"], ["dashboard"], ["doctor", "--bundle", "x.zip"]]
)
def test_commands_on_the_data_directory_are_refused_while_another_server_is_named(
    serve: Serve, tmp_path: Path, capsys: Output, arguments: list[str]
) -> None:
    env, requests = serve({})
    before = set(tmp_path.iterdir())
    named = {**env, "CHOWDER_BASE_URL": "http://other.example:5/v1", "CHOWDER_KEY": "k"}
    assert run(arguments, named) == 2
    printed, notes = capsys.readouterr()
    assert printed == ""
    assert "CHOWDER_BASE_URL names another server, http://other.example:5" in notes
    assert (set(tmp_path.iterdir()), requests) == (before, [])


def test_a_server_and_key_of_the_environment_are_used_and_named_in_errors(
    serve: Serve, tmp_path: Path, capsys: Output
) -> None:
    env, requests = serve(
        {"GET /local/health": HEALTH, "GET /v1/instances": (401, {"detail": "No."})}
    )
    url = json.loads((tmp_path / "server.json").read_bytes())["base_url"]
    elsewhere = {"CHOWDER_DATA_DIR": str(tmp_path / "none"), "CHOWDER_BASE_URL": f"{url}/v1"}
    assert run(["status"], elsewhere) == 0
    assert f"Base URL   {url}/v1" in capsys.readouterr().out
    assert run(["instances", "ls"], {**elsewhere, "CHOWDER_KEY": "chd_org_x"}) == 1
    assert "The key is from CHOWDER_KEY. Unset it" in capsys.readouterr().err
    assert [call for call, _ in requests] == ["GET /local/health", "GET /v1/instances"]
    nobody = {**elsewhere, "CHOWDER_BASE_URL": "http://127.0.0.1:9/v1", "CHOWDER_KEY": "k"}
    assert run(["instances", "ls"], nobody) == 1
    assert "CHOWDER_BASE_URL names that server" in capsys.readouterr().err
    # `env` uses the data directory, or a wrong variable would never be corrected.
    assert run(["env"], {**env, **nobody, "CHOWDER_DATA_DIR": str(tmp_path)}) == 0
    assert f"export CHOWDER_BASE_URL={url}/v1" in capsys.readouterr().out
