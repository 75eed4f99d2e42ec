"""A SQLite connection whose calls complete even if the waiting task is cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import aiosqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUSY_TIMEOUT_S = 5.0


async def connect(path: Path) -> aiosqlite.Connection:
    """A connection that begins no transaction by itself; use it within `uninterrupted` only."""
    return await _Connection(
        partial(sqlite3.connect, path, isolation_level=None, timeout=BUSY_TIMEOUT_S),
        iter_chunk_size=64,
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

    async def _call(self, function: Callable[[], Any]) -> Any:
        result = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((result, function))
        while not result.done():
            try:
                await asyncio.wait((result,))
            except asyncio.CancelledError:
                continue
        return result.result()
