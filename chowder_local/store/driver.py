"""A SQLite connection whose calls run to their end, whatever becomes of the task that waits."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import aiosqlite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUSY_TIMEOUT_S = 5.0


async def connect(path: Path) -> aiosqlite.Connection:
    """A connection that opens no transactions by itself."""
    return await _Connection(
        partial(sqlite3.connect, path, isolation_level=None, timeout=BUSY_TIMEOUT_S),
        iter_chunk_size=64,
    )


class _Connection(aiosqlite.Connection):
    # As the driver has it, a cancelled task leaves a call running in the thread. SQLAlchemy then
    # forgets the connection with its transaction open, and no one can write for seconds.
    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._running or not self._connection:
            raise ValueError("Connection closed")
        called = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((called, partial(fn, *args, **kwargs)))
        cancelled: asyncio.CancelledError | None = None
        while not called.done():
            try:
                await asyncio.wait((called,))
            except asyncio.CancelledError as cancelling:
                cancelled = cancelling
        if cancelled is not None:
            called.exception()
            raise cancelled
        return called.result()
