"""Copies of the database: whole, private, few, and good to go back to."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chowder_local.store import backups
from chowder_local.store.schema import prepare

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "chowder.db"
    prepare(path)
    return path


def rows(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return file.execute("SELECT * FROM meta ORDER BY name").fetchall()


def test_a_copy_has_what_is_in_the_wal_alone_and_is_one_file_of_ours(path: Path) -> None:
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        with writer:
            writer.execute("INSERT INTO meta VALUES ('late', 'but there')")
        # As after a crash: nobody has moved it into the file.
        assert path.with_name("chowder.db-wal").stat().st_size > 0
        backup = backups.take(path, "0002")
        beside = {each.name for each in path.parent.iterdir()}
    assert beside == {"chowder.db", "chowder.db-wal", "chowder.db-shm", backup.name}
    assert backup.name.startswith("chowder.db.backup-0002-")
    assert backup.stat().st_mode & 0o777 == 0o600
    assert rows(backup) == [("late", "but there")]
    # Not even whoever looks into it leaves anything beside it.
    assert not backup.with_name(f"{backup.name}-wal").exists()


def test_the_newest_copies_stay_and_the_others_go(path: Path) -> None:
    mine = path.with_name("chowder.db.backup-of-mine")
    mine.touch()
    made = [backups.take(path, f"{number:04}") for number in range(backups.KEPT + 2)]
    kept = list(reversed(made))[: backups.KEPT]
    assert backups.taken(path) == kept
    assert [each for each in made if each.exists()] == list(reversed(kept))
    assert mine.exists()


def test_copies_are_told_by_their_revision(path: Path) -> None:
    old, new = backups.take(path, "0001"), backups.take(path, "0009")
    assert backups.taken(path, {"0001", "0002"}) == [old]
    assert backups.taken(path, {"0009"}) == [new]
    assert backups.taken(path, set()) == []


def test_a_copy_that_fails_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        backups.take(path, "0002")
    assert [each.name for each in path.parent.iterdir()] == ["chowder.db"]


def test_what_a_crash_left_of_a_copy_is_no_copy_and_goes_with_the_next(path: Path) -> None:
    half = path.with_name("chowder.db.backup-0002-20260504T030201.000000Z.part")
    journal = half.with_name(f"{half.name}-journal")
    half.write_bytes(b"half a copy")
    journal.touch()
    assert backups.taken(path) == []
    backup = backups.take(path, "0002")
    assert {each.name for each in path.parent.iterdir()} == {"chowder.db", backup.name}
