"""Finding and stopping the server of a data directory, with real processes and locks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from chowder_local.cli import server_process
from chowder_local.cli.run_file import find_running
from chowder_local.cli.server_process import is_locked, stop_running
from chowder_local.core.errors.process import (
    DataDirUnusable,
    ServerNotReady,
    ServerOfContainer,
    ServerStuck,
)
from chowder_local.core.settings import Settings
from chowder_local.engine.self_container import process_namespace

HOLDS_THE_LOCK = """
import json, os, signal, sys, time
from filelock import FileLock
lock_file, run_file, is_stubborn = sys.argv[1:]
if is_stubborn == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with FileLock(lock_file):
    with open(run_file, "w") as file:
        json.dump({"pid": os.getpid(), "base_url": "http://127.0.0.1:1", "version": "1"}, file)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({}, data_dir=tmp_path)


@pytest.fixture
def hold(settings: Settings) -> Iterator[Callable[..., int]]:
    with ExitStack() as stack:

        def start(*, is_stubborn: bool = False) -> int:
            files = [str(settings.lock_file), str(settings.run_file)]
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HOLDS_THE_LOCK, *files, "stubborn" * is_stubborn],
                    stdout=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            return process.pid

        yield start


def write_run_file(settings: Settings, **facts: object) -> None:
    settings.run_file.write_text(json.dumps(facts))


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:5", "http://127.0.0.1:5/v1"])
def test_the_run_file_describes_the_server(settings: Settings, base_url: str) -> None:
    write_run_file(settings, pid=7, base_url=base_url, version="1.2")
    found = find_running(settings)
    assert found is not None
    assert (found.pid, found.root_url, found.version) == (7, "http://127.0.0.1:5", "1.2")
    assert found.base_url == "http://127.0.0.1:5/v1"


def test_the_run_file_has_the_named_providers(settings: Settings) -> None:
    facts = {"pid": 7, "base_url": "http://127.0.0.1:5", "version": "1.2"}
    write_run_file(settings, **facts, providers={"lab": "http://lab.example/v1"})
    found = find_running(settings)
    assert found is not None
    assert found.providers == {"lab": "http://lab.example/v1"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": null, "base_url": "x"}'])
def test_an_incomplete_run_file_is_ignored(settings: Settings, content: str) -> None:
    settings.run_file.write_text(content)
    assert find_running(settings) is None


def test_without_a_lock_file_there_is_no_server(settings: Settings) -> None:
    assert not is_locked(settings)
    assert not settings.lock_file.exists()
    assert stop_running(settings) is None


def test_a_held_lock_means_that_a_server_runs(settings: Settings) -> None:
    with FileLock(settings.lock_file):
        assert is_locked(settings)
    assert not is_locked(settings)


def test_a_lock_file_that_cannot_be_opened_is_an_error(settings: Settings) -> None:
    settings.lock_file.mkdir()
    with pytest.raises(DataDirUnusable, match=r"server\.lock cannot be opened"):
        is_locked(settings)


def test_stopping_waits_until_the_lock_is_released(
    settings: Settings, hold: Callable[..., int]
) -> None:
    pid = hold()
    assert stop_running(settings) == pid
    assert not is_locked(settings)


def test_the_process_that_has_the_id_of_a_server_in_another_container_gets_no_signal(
    settings: Settings, hold: Callable[..., int]
) -> None:
    pid = hold()
    facts = {"pid": pid, "base_url": "http://127.0.0.1:1", "version": "1"}
    write_run_file(settings, **facts, process_namespace="pid:[1]")
    with pytest.raises(ServerOfContainer, match="runs in another container"):
        stop_running(settings)
    assert is_locked(settings)
    write_run_file(settings, **facts, process_namespace=process_namespace())
    assert stop_running(settings) == pid


def test_a_server_that_does_not_stop_is_named_with_its_process(
    settings: Settings, hold: Callable[..., int]
) -> None:
    pid = hold(is_stubborn=True)
    with pytest.raises(ServerStuck, match=f"kill -9 {pid}"):
        stop_running(settings, timeout_s=0.2)


def test_a_server_that_ends_before_the_signal_is_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run_file(settings, pid=7, base_url="http://x", version="1")
    lock = FileLock(settings.lock_file)
    lock.acquire()

    def kill(pid: int, number: int) -> None:
        lock.release()
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    assert stop_running(settings) == 7


def test_another_users_server_cannot_be_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run_file(settings, pid=7, base_url="http://x", version="1")

    def kill(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    with FileLock(settings.lock_file), pytest.raises(DataDirUnusable, match="another user"):
        stop_running(settings)


def test_a_server_without_a_run_file_can_be_found_by_its_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "START_TIMEOUT_S", 0.1)
    with FileLock(settings.lock_file), pytest.raises(ServerNotReady, match=r"fuser .*server\.lock"):
        stop_running(settings)


def test_a_server_that_ends_while_it_starts_is_no_server(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, True, False])
    monkeypatch.setattr(server_process, "is_locked", lambda settings: next(answers))
    assert stop_running(settings) is None


@pytest.mark.parametrize("command", [b"/sbin/docker-init\0--\0chowder-local\0up\0", b"bash\0"])
def test_a_server_is_not_stopped_from_inside_its_own_container(
    settings: Settings,
    hold: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: bytes,
) -> None:
    pid = hold()
    first = tmp_path / "cmdline"
    first.write_bytes(command)
    monkeypatch.setattr(server_process, "FIRST_PROCESS", first)
    monkeypatch.setattr(server_process, "is_in_container", lambda: True)
    if b"chowder" not in command:
        assert stop_running(settings) == pid
        return
    with pytest.raises(ServerOfContainer, match="docker stop"):
        stop_running(settings)
    assert is_locked(settings)
    monkeypatch.setattr(server_process, "is_in_container", lambda: False)
    assert stop_running(settings) == pid
