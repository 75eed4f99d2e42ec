"""Backups of the database, made before migrations."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chowder_local.core.data_dir import sync

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

KEPT_BACKUPS = 3
"""The number of the newest backups that are kept; they cover some releases."""

_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"\.backup-(?P<revision>[^-]+)-(?P<time>[^-]+Z)$")


def create(path: Path, revision: str) -> Path:
    """Copies the database, whose schema has the revision, and removes the oldest backups.

    No other process may write meanwhile. Raises sqlite3.Error or OSError if the copy fails, which
    leaves no new backup.
    """
    created_at = datetime.now(UTC).strftime(_TIME)
    backup = path.with_name(f"{path.name}.backup-{revision}-{created_at}")
    part = backup.with_name(f"{backup.name}.part")
    for leftover in path.parent.glob(f"{path.name}.backup-*Z.part*"):
        # A killed process left it.
        leftover.unlink()
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # SQLite's backup API, because the latest commits may be in the WAL only.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            # The backup must be a single file, without a WAL.
            copy.execute("PRAGMA journal_mode = DELETE")
        sync(part)
        part.replace(backup)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    for old in find(path)[KEPT_BACKUPS:]:
        old.unlink()
    return backup


def find(path: Path, revisions: Collection[str] | None = None) -> list[Path]:
    """The backups of a database, newest first; with `revisions`, only those of one of them."""
    backups = []
    for each in path.parent.glob(f"{path.name}.backup-*"):
        name = _NAME.search(each.name)
        if name and (revisions is None or name["revision"] in revisions):
            backups.append((name["time"], each))
    return [each for _, each in sorted(backups, reverse=True)]
