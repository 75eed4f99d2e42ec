"""What a sandbox takes of the disk is found, however it is hidden."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chowder_local.engine.programs import measure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it runs in sandboxes only")

MB = 1024 * 1024


def written(path: Path, megabytes: int) -> None:
    path.write_bytes(os.urandom(megabytes * MB))


def measured(root: Path, limit: int = 1 << 40) -> int:
    return measure.measure(str(root), "/proc", limit) // MB


def test_files_are_counted_wherever_they_are(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    written(tmp_path / "one", 3)
    written(tmp_path / "a" / "b" / ".two", 4)
    assert measured(tmp_path) == 7


def test_a_file_with_two_names_counts_once_and_a_link_for_nothing(tmp_path: Path) -> None:
    written(tmp_path / "one", 3)
    (tmp_path / "again").hardlink_to(tmp_path / "one")
    (tmp_path / "elsewhere").symlink_to("/usr")
    assert measured(tmp_path) == 3


def test_a_hole_is_not_counted(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MB)
    assert measured(tmp_path) == 0


def test_what_was_deleted_and_is_held_open_is_counted(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("wb") as file:
        file.write(os.urandom(5 * MB))
        file.flush()
        (tmp_path / "gone").unlink()
        # Other tests may hold some as well, on the same disk.
        assert measured(tmp_path) >= 5


def test_nobody_counts_on_once_it_is_too_much(tmp_path: Path) -> None:
    for number in range(10):
        written(tmp_path / str(number), 1)
    assert 3 <= measured(tmp_path, 3 * MB) <= 4


def test_too_many_files_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FILES_MAX", 5)
    for number in range(6):
        (tmp_path / str(number)).touch()
    assert measure.measure(str(tmp_path), "/proc", 1000 * MB) == 1000 * MB + 1


def test_as_a_program_it_says_a_number_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", measure.__file__, str(tmp_path), "/proc", str(MB)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.strip().isdecimal()
