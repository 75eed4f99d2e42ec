"""Which of the runs that use one server ends it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chowder_local.testing.server_leases import ServerLeases

OURS = os.getpid()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another run, for as long as it is not killed."""
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
    # By each of its processes.
    for _ in range(2):
        take(leases, OURS)
    leases.give_up(OURS, ended.append)
    leases.give_up(OURS, ended.append)
    assert ended == ["start"]


def test_a_server_that_another_run_uses_is_left_to_that(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    take(leases, OURS)
    take(leases, other.pid)
    leases.give_up(OURS, ended.append)
    assert ended == []
    leases.give_up(other.pid, ended.append)
    assert ended == ["start"]


def test_a_server_of_another_kind_is_another_server(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    take(leases, OURS)
    take(leases, other.pid, "container")
    leases.give_up(OURS, ended.append)
    assert ended == ["start"]


def test_a_run_that_uses_none_waits_for_nobody_and_ends_nothing(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    leases.give_up(OURS, ended.append)
    with leases.take(other.pid, "start"):
        leases.give_up(OURS, ended.append)
    assert ended == []


def test_what_a_killed_run_left_is_ended_by_the_next_one(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes]
) -> None:
    take(leases, other.pid)
    other.kill()
    other.wait()
    leases.give_up(OURS, ended.append)
    assert ended == ["start"]


def test_a_process_that_has_the_number_of_a_killed_run_is_not_that_run(
    leases: ServerLeases, ended: list[str], other: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    take(leases, OURS)
    (tmp_path / "runs" / str(OURS)).write_text("start 1")
    leases.give_up(other.pid, ended.append)
    assert ended == ["start"]


def test_what_a_desktop_leaves_in_the_folder_is_no_run(
    leases: ServerLeases, ended: list[str], tmp_path: Path
) -> None:
    take(leases, OURS)
    (tmp_path / "runs" / ".DS_Store").touch()
    leases.give_up(OURS, ended.append)
    assert ended == ["start"]


def test_a_server_that_does_not_start_is_ended_all_the_same(
    leases: ServerLeases, ended: list[str]
) -> None:
    with pytest.raises(TimeoutError), leases.take(OURS, "start"):
        raise TimeoutError
    leases.give_up(OURS, ended.append)
    assert ended == ["start"]
