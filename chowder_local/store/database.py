"""Opens the SQLite file and hands out sessions: many that read, one at a time that writes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from chowder_local.store.error_translation import translated_errors
from chowder_local.store.schema import prepare
from chowder_local.store.sqlite_connection import connect, uninterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
    from pathlib import Path

    from sqlalchemy import Select

Value = TypeVar("Value")

_READERS = 4

CACHE_CAPACITY = 10_000
"""After so many values a cache begins anew: that costs less than knowing which are read again."""

PAGE_SIZE = 200
"""Of rows that are made into something in one go, while which nobody else is served."""

# A 2xx follows its commit. After kill -9 the kernel still has what was committed, with any setting.
# A power cut takes back the last commits unless each is synced: with a WAL, FULL does that, and
# NORMAL only at checkpoints. It costs 0.3 to 3 ms a commit (ext4), and no message or poll waits for
# one; what waits a while to be written, last uses, nobody was promised. fullfsync is for macOS.
_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
)


class Database:
    """The store's file while it is open; made by `open` only."""

    def __init__(self, path: Path, readers: AsyncEngine, writer: AsyncEngine) -> None:
        self._path = path
        self._readers = readers
        self._writer = writer
        self._write_lock = asyncio.Lock()
        self.generation = 0
        """Grows with each write that invalidates what a `ReadCache` holds."""

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """The database in `path`, made or migrated if need be; raises DataDirUnusable."""
        await asyncio.to_thread(prepare, path)
        readers = _engine(path, _READERS, "BEGIN", (*_PRAGMAS, "PRAGMA query_only = ON"))
        writer = _engine(path, 1, "BEGIN IMMEDIATE", _PRAGMAS)
        try:
            yield cls(path, readers, writer)
        finally:
            with uninterrupted():
                await readers.dispose()
                # The last to close moves the WAL into the file, which no reader may.
                await writer.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and can change nothing."""
        with uninterrupted(), translated_errors(self._path):
            async with AsyncSession(self._readers, expire_on_commit=False) as session:
                yield session

    async def pages(self, question: Select[Any]) -> AsyncGenerator[list[dict[str, Any]]]:
        """The rows that a question finds, in one state of the database, in pages, by column.

        Close the iterator to stop early. Rows that are objects would take three times as long.
        """
        async with self.reading() as session:
            found = await session.stream(question, execution_options={"yield_per": PAGE_SIZE})
            names = tuple(found.keys())
            async for page in found.partitions():
                yield [dict(zip(names, row, strict=True)) for row in page]

    @asynccontextmanager
    async def writing(self, *, invalidates_caches: bool = True) -> AsyncIterator[AsyncSession]:
        """The only transaction that writes; committed at the end, rolled back on an error.

        `invalidates_caches` is whether it changes anything that a `ReadCache` holds.
        """
        # Waiting here is fair and costs nothing; SQLite's own waiting is a sleep that may fail.
        async with self._write_lock:
            try:
                with uninterrupted(), translated_errors(self._path):
                    async with AsyncSession(self._writer, expire_on_commit=False) as session:
                        yield session
                        await session.commit()
            finally:
                # Also after an error: who was cancelled may have written all the same.
                self.generation += invalidates_caches


class ReadCache(Generic[Value]):
    """Values of one kind; sound because this process is the only one that writes.

    Every request reads its key and its instance, and reading the file takes longer than answering
    the request.
    """

    def __init__(self, database: Database, capacity: int = CACHE_CAPACITY) -> None:
        self._database = database
        self._capacity = capacity
        self._generation = database.generation
        self._values: dict[Hashable, Value] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Value | None]]) -> Value | None:
        """What `read` finds, or found since the last write."""
        generation = self._database.generation
        if generation != self._generation:
            self._values.clear()
            self._generation = generation
        elif key in self._values:
            return self._values[key]
        value = await read()
        # A write that overtook the read may have changed the value. What is not there is not
        # kept, so that made-up keys cannot fill the memory.
        if value is not None and generation == self._database.generation:
            if len(self._values) >= self._capacity:
                self._values.clear()
            self._values[key] = value
        return value


def _engine(path: Path, size: int, begin: str, pragmas: tuple[str, ...]) -> AsyncEngine:
    engine = create_async_engine(
        # `connect` opens the path; that it is here too tells SQLAlchemy that it is a file.
        URL.create("sqlite+aiosqlite", database=str(path)),
        async_creator=partial(connect, path),
        pool_size=size,
        max_overflow=0,
        pool_timeout=None,
    )

    def connected(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
    return engine
