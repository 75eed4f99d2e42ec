"""Translates errors of SQLite and the file system into errors with a remedy."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from chowder_local.core.errors.process import DataDirFull, DataDirUnusable, data_dir_failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The low byte of an extended result code is the primary one: https://sqlite.org/rescode.html
_PRIMARY = 0xFF

# What SQLite reports if the file beside the database, which it shares memory by, cannot grow.
_WITHOUT_ROOM = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
# That file has 32 KiB at least; the rest is for a file system that rounds up.
_LEAST_ROOM_BYTES = 128 * 1024

_OTHERWISE = "or choose another directory with --data-dir."


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raises DataDirUnusable in place of errors of the file or its disk; others pass."""
    try:
        yield
    except (sqlite3.Error, DBAPIError) as failed:
        code = _sqlite_code(failed)
        if code in _WITHOUT_ROOM and _is_full(path.parent):
            code = sqlite3.SQLITE_FULL
        message = _messages(path).get(code)
        if message is None:
            raise
        kind = DataDirFull if code == sqlite3.SQLITE_FULL else DataDirUnusable
        raise kind(message) from failed


def unwritable(path: Path, failed: OSError) -> DataDirUnusable:
    """The error for a file that cannot be made or opened."""
    is_full = failed.errno in DataDirFull.errnos
    code = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_CANTOPEN
    return data_dir_failure(failed, _messages(path)[code])


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    # File systems with unlimited inodes report 0 of them.
    is_out_of_inodes = disk.f_files > 0 and disk.f_favail == 0
    return is_out_of_inodes or disk.f_bavail * disk.f_frsize < _LEAST_ROOM_BYTES


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
