"""Measuring a sandbox's disk usage, however it is hidden."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chowder_local.engine.programs import measure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs in sandboxes only")

MB = 1024 * 1024


def written(path: Path, megabytes: int) -> None:
    path.write_bytes(os.urandom(megabytes * MB))


NO_PROCESSES = "/sys"
"""As other tests' processes may hold deleted files on the same disk."""


def measured(root: Path, limit: int = 1 << 40, processes: str = NO_PROCESSES) -> int:
    return measure.measure(str(root), processes, limit) // MB


def test_files_in_all_folders_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    written(tmp_path / "one", 3)
    written(tmp_path / "a" / "b" / ".two", 4)
    assert measured(tmp_path) == 7


def test_a_hard_link_counts_once_and_a_symbolic_link_not_at_all(tmp_path: Path) -> None:
    written(tmp_path / "one", 3)
    (tmp_path / "again").hardlink_to(tmp_path / "one")
    (tmp_path / "elsewhere").symlink_to("/usr")
    assert measured(tmp_path) == 3


def test_holes_in_a_file_are_not_counted(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MB)
    assert measured(tmp_path) == 0


def test_deleted_files_that_are_still_open_are_counted(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("wb") as file:
        file.write(os.urandom(5 * MB))
        file.flush()
        (tmp_path / "gone").unlink()
        # Other tests may hold some as well, on the same disk.
        assert measured(tmp_path, processes="/proc") >= 5


def test_counting_stops_at_the_limit(tmp_path: Path) -> None:
    for number in range(10):
        written(tmp_path / str(number), 1)
    assert 3 <= measured(tmp_path, 3 * MB) <= 4


def test_too_many_files_exceed_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FILES_MAX", 5)
    for number in range(6):
        (tmp_path / str(number)).touch()
    assert measure.measure(str(tmp_path), "/proc", 1000 * MB) == 1000 * MB + 1


def test_the_program_prints_only_a_number(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", measure.__file__, str(tmp_path), "/proc", str(MB)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.strip().isdecimal()
