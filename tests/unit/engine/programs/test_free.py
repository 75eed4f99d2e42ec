"""What is said to be left of a disk, whether bytes or files are short."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from chowder_local.engine.programs.free import free_bytes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_disk_with_room_has_some_left(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert 0 < free_bytes(str(tmp_path)) <= found.f_blocks * found.f_frsize


@pytest.mark.parametrize(
    ("blocks", "files", "files_left", "expected"),
    [(3, 100, 5, 3 * 4096), (0, 100, 5, 0), (3, 100, 0, 0), (3, 0, 0, 3 * 4096)],
)
def test_where_no_more_files_can_be_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, blocks: int, files: int, files_left: int, expected: int
) -> None:
    found = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_files=files, f_favail=files_left)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert free_bytes("/data") == expected
