"""The last of several runs ends their server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chowder_local.testing.servers import ServerLeases

OURS = os.getpid()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """The process of another run."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def leases(tmp_path: Path) -> ServerLeases:
    return ServerLeases(tmp_path / "runs")


@pytest.fixture
def ended() -> list[str]:
    return []


def take(leases: ServerLeases, run: int, kind: str = "start") -> None:
    with leases.take(run, kind):
        """A server is started."""


def test_a_run_alone_ends_its_server(leases: ServerLeases, ended: list[str]) -> None:
    # Each process of a run takes the lease.
    for _ in range(2):
        take(leases, OURS)
    leases.release(OURS, ended.append)
    leases.release(OURS, ended.append)
    assert ended == ["start"]


def test_a_server_that_another_run_uses_is_not_ended(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    take(leases, OURS)
    take(leases, other.pid)
    leases.release(OURS, ended.append)
    assert ended == []
    leases.release(other.pid, ended.append)
    assert ended == ["start"]


def test_a_server_of_another_kind_is_another_server(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    take(leases, OURS)
    take(leases, other.pid, "container")
    leases.release(OURS, ended.append)
    assert ended == ["start"]


def test_a_run_without_a_server_does_not_wait_for_the_lock(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    leases.release(OURS, ended.append)
    with leases.take(other.pid, "start"):
        leases.release(OURS, ended.append)
    assert ended == []


def test_the_server_of_a_killed_run_is_ended_by_the_next_run(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    take(leases, other.pid)
    other.kill()
    other.wait()
    leases.release(OURS, ended.append)
    assert ended == ["start"]


def test_a_new_process_with_the_id_of_a_killed_run_is_not_that_run(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    take(leases, OURS)
    (tmp_path / "runs" / str(OURS)).write_text("start 1")
    leases.release(other.pid, ended.append)
    assert ended == ["start"]


def test_files_of_a_desktop_in_the_folder_are_ignored(
    leases: ServerLeases, ended: list[str], tmp_path: Path
) -> None:
    take(leases, OURS)
    (tmp_path / "runs" / ".DS_Store").touch()
    leases.release(OURS, ended.append)
    assert ended == ["start"]


def test_a_server_that_fails_to_start_is_ended(leases: ServerLeases, ended: list[str]) -> None:
    with pytest.raises(TimeoutError), leases.take(OURS, "start"):
        raise TimeoutError
    leases.release(OURS, ended.append)
    assert ended == ["start"]
