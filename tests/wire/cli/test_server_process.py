"""Starting a server in the background, with real child processes as servers."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chowder_local.cli import server_process
from chowder_local.cli.server_process import (
    ServerFailed,
    healthy_server,
    importing_server,
    start_detached,
    wait_until_ready,
)
from chowder_local.core.errors.process import DataDirUnusable, ServerNotReady
from chowder_local.core.settings import Settings

SERVES = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"ready": True, "pid": os.getpid()}).encode())
with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
    facts = {"pid": os.getpid(), "version": "1", "base_url": f"http://127.0.0.1:{server.server_port}"}
    with open(os.environ["RUN_FILE"] + ".part", "w") as file:
        json.dump(facts, file)
    os.replace(file.name, os.environ["RUN_FILE"])
    while True:
        server.handle_request()
"""

Become = Callable[[str], dict[str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({}, data_dir=tmp_path / "data")


@pytest.fixture
def become(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Become:
    """Replaces the server's program by Python code; returns its environment."""

    def arrange(code: str) -> dict[str, str]:
        (tmp_path / "code.py").write_text(code)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/code.py "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return {"RUN_FILE": str(settings.run_file)}

    return arrange


def test_starting_returns_once_the_server_takes_calls(settings: Settings, become: Become) -> None:
    running = start_detached(settings, become(SERVES))
    try:
        assert healthy_server(settings) == running
        assert os.getsid(running.pid) == running.pid
        # Its output goes to the log, not to this terminal.
        assert b"/local/health" in settings.log_file.read_bytes()
    finally:
        os.kill(running.pid, 9)
        os.waitpid(running.pid, 0)
    assert healthy_server(settings) is None


PRINTS_SETTINGS = """
import json, sys
env = json.loads(sys.stdin.readline())
print("Error:", sys.argv[1:], env["CHOWDER_DATA_DIR"], env["CHOWDER_PORT"])
sys.exit(1)
"""


def test_the_server_gets_its_settings_on_standard_input(settings: Settings, become: Become) -> None:
    env = become(PRINTS_SETTINGS)
    with pytest.raises(ServerFailed) as failed:
        start_detached(settings, env | {"CHOWDER_PORT": "7"})
    assert str(failed.value) == f"['-P', '-m', 'chowder_local.app', '--wait'] {settings.data_dir} 7"


def test_a_server_that_has_begun_to_import_gets_the_settings_of_options(
    settings: Settings, become: Become
) -> None:
    settings.data_dir.mkdir()
    settings.log_file.touch()
    env = become(PRINTS_SETTINGS)
    with importing_server(settings, env) as server:
        assert server is not None
        with pytest.raises(ServerFailed, match=f"{settings.data_dir} 7"):
            start_detached(settings, env | {"CHOWDER_PORT": "7"}, server)


def test_a_server_that_gets_no_settings_ends_with_its_command(
    settings: Settings, become: Become
) -> None:
    settings.data_dir.mkdir()
    settings.log_file.touch()
    with importing_server(settings, become("input()")) as server:
        pass
    assert server is not None
    assert server.process.returncode is not None


def test_no_server_begins_in_a_new_folder_or_beside_another(
    settings: Settings, become: Become
) -> None:
    env = become("raise SystemExit(5)")
    with importing_server(settings, env) as server:
        assert server is None
    assert not settings.data_dir.exists()
    settings.data_dir.mkdir()
    settings.log_file.touch()
    settings.run_file.touch()
    with importing_server(settings, env) as server:
        assert server is None


def test_the_servers_error_and_exit_code_are_passed_on(settings: Settings, become: Become) -> None:
    settings.data_dir.mkdir()
    settings.log_file.write_text("Error: of yesterday\n")
    env = become("import sys; print('starting\\nError: Port 7 is taken.\\nReally.'); sys.exit(3)")
    with pytest.raises(ServerFailed) as failed:
        start_detached(settings, env)
    assert (str(failed.value), failed.value.exit_code) == ("Port 7 is taken.\nReally.", 3)


def test_the_log_of_a_server_that_ends_without_an_error_is_quoted(
    settings: Settings, become: Become
) -> None:
    env = become("import os; print('starting', flush=True); os.kill(os.getpid(), 9)")
    with pytest.raises(ServerFailed, match="without an error message") as failed:
        start_detached(settings, env)
    assert str(failed.value).endswith("\n  starting")
    assert failed.value.exit_code == 1


def test_a_server_that_had_no_room_for_its_error_ends_with_a_full_disk(
    settings: Settings, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "is_full", lambda _: True)
    with pytest.raises(ServerFailed, match=f"The disk that holds {settings.data_dir} is full"):
        start_detached(settings, become("raise SystemExit(5)"))


def test_a_server_that_does_not_become_ready_is_ended(settings: Settings, become: Become) -> None:
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(ServerNotReady, match=r"within 1 s and was ended"):
        start_detached(settings, become(code), timeout_s=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(settings.log_file.read_text()), 0)


def test_a_server_that_ignores_sigterm_is_killed(
    settings: Settings, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "END_TIMEOUT_S", 0.1)
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    with pytest.raises(ServerNotReady):
        start_detached(settings, become(code), timeout_s=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(settings.log_file.read_text()), 0)


def test_an_interrupted_wait_ends_the_server(
    settings: Settings, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def interrupt(settings: Settings, pid: int, *_: object) -> None:
        started.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(server_process, "wait_until_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_detached(settings, become("import time; time.sleep(60)"))
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_data_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings.read({}, data_dir=tmp_path / "file" / "data")
    with pytest.raises(DataDirUnusable, match="Not a directory"):
        start_detached(settings, {})


def test_the_run_file_of_another_process_is_ignored(settings: Settings) -> None:
    settings.data_dir.mkdir()
    settings.run_file.write_text('{"pid": 1, "base_url": "http://127.0.0.1:1", "version": "1"}')
    assert wait_until_ready(settings, 2, lambda: False, timeout_s=0.1) is None


def test_a_server_whose_up_failed_ends_and_has_opened_nothing(tmp_path: Path) -> None:
    env = os.environ | {"CHOWDER_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-P", "-m", "chowder_local.app", server_process.WAIT_OPTION]
    ended = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False)
    assert ended.returncode == 1
    assert not (tmp_path / "data").exists()
