"""Translates errors of SQLite and the file system into errors with a remedy."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from chowder_local.core.errors.process import DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The low byte of an extended result code is the primary one: https://sqlite.org/rescode.html
_PRIMARY = 0xFF

_OTHERWISE = "or choose another directory with --data-dir."


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raises DataDirUnusable in place of errors of the file or its disk; others pass."""
    try:
        yield
    except (sqlite3.Error, DBAPIError) as failed:
        message = _messages(path).get(_sqlite_code(failed))
        if message is None:
            raise
        raise DataDirUnusable(message) from failed


def unwritable(path: Path, failed: OSError) -> DataDirUnusable:
    """The error for a file that cannot be made or opened."""
    is_full = failed.errno in {errno.ENOSPC, errno.EDQUOT}
    return DataDirUnusable(
        _messages(path)[sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_CANTOPEN]
    )


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
        sqlite3.SQLITE_FULL: f"The disk that holds {folder} is full. Free some space, {_OTHERWISE}",
        sqlite3.SQLITE_IOERR: f"The disk that holds {path} fails. Check it, {_OTHERWISE}",
        sqlite3.SQLITE_CANTOPEN: denied,
        sqlite3.SQLITE_READONLY: denied,
        sqlite3.SQLITE_PERM: denied,
        sqlite3.SQLITE_NOTADB: damaged,
        sqlite3.SQLITE_CORRUPT: damaged,
        sqlite3.SQLITE_BUSY: locked,
    }
