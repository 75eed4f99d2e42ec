"""Translates errors of SQLite and the file system into ours, which say the cure."""

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

_ELSEWHERE = "or choose another directory with --data-dir."


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raises DataDirUnusable in place of a failure of the file or its disk; others pass."""
    try:
        yield
    except (sqlite3.Error, DBAPIError) as failed:
        message = _messages(path).get(_sqlite_code(failed))
        if message is None:
            raise
        raise DataDirUnusable(message) from failed


def unwritable(path: Path, failed: OSError) -> DataDirUnusable:
    """What a failure to make or open the file means."""
    is_full = failed.errno in {errno.ENOSPC, errno.EDQUOT}
    return DataDirUnusable(
        _messages(path)[sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_CANTOPEN]
    )


def _sqlite_code(failed: BaseException | None) -> int:
    """SQLAlchemy wraps the driver's error once or twice, so the code is somewhere below."""
    while failed is not None:
        code = getattr(failed, "sqlite_errorcode", None)
        if code is not None:
            return int(code) & _PRIMARY
        failed = failed.orig if isinstance(failed, DBAPIError) else failed.__cause__
    return sqlite3.SQLITE_ERROR


def _messages(path: Path) -> dict[int, str]:
    folder = path.parent
    denied = f"{path} cannot be written. Make it and {folder} writable for this user, {_ELSEWHERE}"
    damaged = f"{path} is damaged or not a database. Move it away to begin anew, {_ELSEWHERE}"
    locked = f"Another program keeps {path} locked. Close it, {_ELSEWHERE}"
    return {
        sqlite3.SQLITE_FULL: f"The disk that holds {folder} is full. Free some space, {_ELSEWHERE}",
        sqlite3.SQLITE_IOERR: f"The disk that holds {path} fails. Check it, {_ELSEWHERE}",
        sqlite3.SQLITE_CANTOPEN: denied,
        sqlite3.SQLITE_READONLY: denied,
        sqlite3.SQLITE_PERM: denied,
        sqlite3.SQLITE_NOTADB: damaged,
        sqlite3.SQLITE_CORRUPT: damaged,
        sqlite3.SQLITE_BUSY: locked,
    }
