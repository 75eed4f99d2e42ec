"""Copies of the database as it was before a migration, and which of them to put back."""

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

KEPT = 3
"""Of the newest ones; a migration comes with a release, so these reach back some releases."""

_TIME = "%Y%m%dT%H%M%S.%fZ"
_TAKEN = re.compile(r"\.backup-(?P<revision>[^-]+)-(?P<time>[^-]+Z)$")


def take(path: Path, revision: str) -> Path:
    """Copies the database, whose schema is of that revision; the older copies go.

    Nobody else may write meanwhile. Raises sqlite3.Error, OSError; then there is no new copy.
    """
    taken_at = datetime.now(UTC).strftime(_TIME)
    backup = path.with_name(f"{path.name}.backup-{revision}-{taken_at}")
    part = backup.with_name(f"{backup.name}.part")
    for half in path.parent.glob(f"{path.name}.backup-*Z.part*"):
        # Left by a process that was killed.
        half.unlink()
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # SQLite's own way, because what was committed last may be in the WAL alone.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            # The copy shall be one file, which nothing beside it can belong to.
            copy.execute("PRAGMA journal_mode = DELETE")
        sync(part)
        part.replace(backup)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    for old in taken(path)[KEPT:]:
        old.unlink()
    return backup


def taken(path: Path, revisions: Collection[str] | None = None) -> list[Path]:
    """The copies of a database, newest first; with `revisions`, those of one of these."""
    found = []
    for each in path.parent.glob(f"{path.name}.backup-*"):
        named = _TAKEN.search(each.name)
        if named and (revisions is None or named["revision"] in revisions):
            found.append((named["time"], each))
    return [each for _, each in sorted(found, reverse=True)]
