"""Backups of the database: complete, private, and limited in number."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chowder_local.store import schema
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


def test_a_backup_includes_the_wal_and_is_one_private_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        with writer:
            writer.execute("INSERT INTO meta VALUES ('late', 'but there')")
        # As after a crash: the WAL is not merged into the file.
        assert path.with_name("chowder.db-wal").stat().st_size > 0
        backup = schema.back_up(path, "0002")
        beside = {each.name for each in path.parent.iterdir()}
    assert beside == {"chowder.db", "chowder.db-wal", "chowder.db-shm", backup.name}
    assert backup.name.startswith("chowder.db.backup-0002-")
    assert backup.stat().st_mode & 0o777 == 0o600
    assert rows(backup) == [("late", "but there")]
    # Reading the backup creates no other file.
    assert not backup.with_name(f"{backup.name}-wal").exists()


def test_the_newest_backups_are_kept_and_the_others_removed(path: Path) -> None:
    mine = path.with_name("chowder.db.backup-of-mine")
    mine.touch()
    made = [schema.back_up(path, f"{number:04}") for number in range(schema.KEPT_BACKUPS + 2)]
    kept = list(reversed(made))[: schema.KEPT_BACKUPS]
    assert schema.find(path) == kept
    assert [each for each in made if each.exists()] == list(reversed(kept))
    assert mine.exists()


def test_backups_are_found_by_their_revision(path: Path) -> None:
    old, new = schema.back_up(path, "0001"), schema.back_up(path, "0009")
    assert schema.find(path, {"0001", "0002"}) == [old]
    assert schema.find(path, {"0009"}) == [new]
    assert schema.find(path, set()) == []


def test_a_backup_that_fails_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        schema.back_up(path, "0002")
    assert [each.name for each in path.parent.iterdir()] == ["chowder.db"]


def test_a_partial_backup_of_a_crash_is_ignored_and_removed_by_the_next(path: Path) -> None:
    half = path.with_name("chowder.db.backup-0002-20260504T030201.000000Z.part")
    journal = half.with_name(f"{half.name}-journal")
    half.write_bytes(b"half a copy")
    journal.touch()
    assert schema.find(path) == []
    backup = schema.back_up(path, "0002")
    assert {each.name for each in path.parent.iterdir()} == {"chowder.db", backup.name}
