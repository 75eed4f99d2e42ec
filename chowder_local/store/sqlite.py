"""SQLite: a connection whose calls complete although their task is cancelled, and its errors."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import aiosqlite
from sqlalchemy.exc import DBAPIError

from chowder_local.core.data_dir import full, is_full
from chowder_local.core.errors.process import DataDirFull, DataDirUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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
        f"{path} is damaged or not a database. Put a copy of it back, remove all agents and data "
        f"of the directory with 'chowder-local reset', {_OTHERWISE}"
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


BUSY_TIMEOUT_S = 5.0
_ROWS_AT_ONCE = 64


async def connect(path: Path) -> aiosqlite.Connection:
    """A connection that begins no transaction by itself; use it within `uninterrupted` only."""
    return await _Connection(
        partial(sqlite3.connect, path, isolation_level=None, timeout=BUSY_TIMEOUT_S),
        iter_chunk_size=_ROWS_AT_ONCE,
    )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays a cancellation during a driver's call until the end of the block."""
    task = asyncio.current_task()
    requested_before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > requested_before:
            raise asyncio.CancelledError


class _Connection(aiosqlite.Connection):
    # If a cancellation interrupts a call, SQLAlchemy loses a connection with an open transaction,
    # which blocks all writers for seconds.
    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._running or not self._connection:
            raise ValueError("Connection closed")
        return await self._call(partial(fn, *args, **kwargs))

    # Without this, only the garbage collector would close a connection whose task was cancelled.
    async def _connect(self) -> aiosqlite.Connection:
        try:
            self._connection = await self._call(self._connector)
        finally:
            if self._connection is None:
                self.stop()
        return self

    # The statement's first call makes the cursor: see `_Cursor`.
    def cursor(self) -> _Cursor:  # type: ignore[override]  # a `Result` of one, to await or enter
        return _Cursor(self)

    # The pool rolls back whatever is returned to it, which after a commit is nothing.
    async def rollback(self) -> None:
        if self.in_transaction:
            await super().rollback()

    async def _call(self, function: Callable[[], Any]) -> Any:
        result = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((result, function))
        while not result.done():
            try:
                await asyncio.wait((result,))
            except asyncio.CancelledError:
                continue
        return result.result()


class _Cursor(aiosqlite.Cursor):
    """A cursor that takes one call of the connection's thread for a statement with few rows.

    The driver's own takes four: to make it, to execute, to fetch and to close. Each hands over to
    the thread and back, which takes longer than most statements do.
    """

    def __init__(self, connection: _Connection) -> None:
        # The driver's cursor is made with the first statement.
        super().__init__(connection, None)  # type: ignore[arg-type]
        self._connection = connection
        self._made: sqlite3.Cursor | None = None
        self._first_rows: list[Any] = []
        self._has_more = False

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> Self:
        await self._connection._execute(self._run, sqlite3.Cursor.execute, sql, parameters or ())
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Self:
        await self._connection._execute(self._run, sqlite3.Cursor.executemany, sql, parameters)
        return self

    def _run(self, execute: Callable[..., Any], sql: str, parameters: Iterable[Any]) -> None:
        if self._made is None:
            self._made = self._cursor = self._connection._conn.cursor()
        self._first_rows, self._has_more = [], False
        execute(self._cursor, sql, parameters)
        if self._cursor.description:
            self._first_rows = self._cursor.fetchmany(_ROWS_AT_ONCE)
            # SQLite has ended a statement whose last row was fetched: there is nothing to close.
            self._has_more = len(self._first_rows) == _ROWS_AT_ONCE

    async def fetchone(self) -> Any:
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self.arraysize if size is None else size
        rows, self._first_rows = self._first_rows[:size], self._first_rows[size:]
        if self._has_more and len(rows) < size:
            rows += await self._connection._execute(self._cursor.fetchmany, size - len(rows))
        return rows

    async def fetchall(self) -> list[Any]:
        rows, self._first_rows = self._first_rows, []
        if self._has_more:
            rows += await self._connection._execute(self._cursor.fetchall)
        return rows

    async def close(self) -> None:
        self._first_rows = []
        if self._has_more:
            self._has_more = False
            await self._connection._execute(self._cursor.close)
