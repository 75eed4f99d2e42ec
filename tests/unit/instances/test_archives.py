"""Files of snapshots: whole or not there, and for us only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import SnapshotId
from chowder_local.errors.process import DataDirUnusable
from chowder_local.instances.archives import Archives

if TYPE_CHECKING:
    from pathlib import Path

ONE = SnapshotId("one")


def test_an_archive_is_there_once_it_is_whole_and_for_us_only(tmp_path: Path) -> None:
    archives = Archives(tmp_path / "snapshots")
    archives.raw(ONE).write_bytes(b"raw")
    with archives.writing(ONE) as file:
        file.write(b"content")
        assert not archives.path(ONE).exists()
    assert archives.path(ONE).read_bytes() == b"content"
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "snapshots").rglob("*")}
    assert modes == {0}
    assert archives.ids() == {ONE}
    archives.remove(ONE)
    archives.remove(ONE)
    assert archives.ids() == set()


def test_one_that_was_broken_off_is_not_there(tmp_path: Path) -> None:
    archives = Archives(tmp_path)
    archives.raw(ONE)
    with pytest.raises(ValueError, match="broken"), archives.writing(ONE):
        raise ValueError("broken")
    assert not archives.path(ONE).exists()
    archives.remove(ONE)
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    archives = Archives(tmp_path / "none")
    archives.remove(ONE)
    assert archives.ids() == set()


def test_a_folder_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    archives = Archives(tmp_path / "file" / "below")
    with pytest.raises(DataDirUnusable, match="cannot be written"):
        archives.raw(ONE)
