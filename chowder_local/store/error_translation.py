"""Translates errors of SQLite and the file system into errors with a remedy."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from chowder_local.core.data_dir import full, is_full
from chowder_local.core.errors.process import DataDirFull, DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The low byte of an extended result code is the primary one: https://sqlite.org/rescode.html
_PRIMARY = 0xFF

# What SQLite reports if the file beside the database, which it shares memory by, cannot grow.
_WITHOUT_ROOM = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}

_OTHERWISE = "or choose another directory with --data-dir."


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raises DataDirUnusable in place of errors of the file or its disk; others pass."""
    try:
        yield
    except (sqlite3.Error, DBAPIError) as failed:
        code = _sqlite_code(failed)
        if code == sqlite3.SQLITE_FULL or (code in _WITHOUT_ROOM and is_full(path.parent)):
            raise full(path.parent) from failed
        message = _messages(path).get(code)
        if message is None:
            raise
        raise DataDirUnusable(message) from failed


def unwritable(path: Path, failed: OSError) -> DataDirUnusable:
    """The error for a file that cannot be made or opened."""
    if failed.errno in DataDirFull.errnos:
        return full(path.parent)
    return DataDirUnusable(_messages(path)[sqlite3.SQLITE_CANTOPEN])


def _sqlite_code(failed: BaseException | None) -> int:
    """The result code of the driver's error, which SQLAlchemy wraps once or twice."""
    while failed is not None:
        code = getattr(failed, "sqlite_errorcode", None)
        if code is not None:
            return int(code) & _PRIMARY
        failed = failed.orig if isinstance(failed, DBAPIError) else failed.__cause__
    return sqlite3.SQLITE_ERROR


def _messages(path: Path) -> dict[int, str]:
    folder = path.parent
    denied = f"{path} cannot be written. Make it and {folder} writable for this user, {_OTHERWISE}"
    damaged = (
        f"{path} is damaged or not a database. Move it away to begin with an empty one, "
        f"{_OTHERWISE}"
    )
    locked = f"Another program keeps {path} locked. Close that program, {_OTHERWISE}"
    return {
        sqlite3.SQLITE_IOERR: f"The disk that holds {path} fails. Check it, {_OTHERWISE}",
        sqlite3.SQLITE_CANTOPEN: denied,
        sqlite3.SQLITE_READONLY: denied,
        sqlite3.SQLITE_PERM: denied,
        sqlite3.SQLITE_NOTADB: damaged,
        sqlite3.SQLITE_CORRUPT: damaged,
        sqlite3.SQLITE_BUSY: locked,
    }
