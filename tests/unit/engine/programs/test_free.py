"""The free space of a disk, limited by bytes or by inodes."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from chowder_local.engine.programs.free import free_bytes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_disk_with_free_space_has_some(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert 0 < free_bytes(str(tmp_path)) <= status.f_blocks * status.f_frsize


@pytest.mark.parametrize(
    ("blocks", "files", "files_left", "expected"),
    [(3, 100, 5, 3 * 4096), (0, 100, 5, 0), (3, 100, 0, 0), (3, 0, 0, 3 * 4096)],
)
def test_a_disk_without_free_inodes_has_no_free_space(
    monkeypatch: pytest.MonkeyPatch, blocks: int, files: int, files_left: int, expected: int
) -> None:
    status = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_files=files, f_favail=files_left)
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    assert free_bytes("/data") == expected
