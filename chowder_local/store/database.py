"""The SQLite file and its sessions: many readers, one writer at a time; values of the server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from chowder_local.store.schema import prepare
from chowder_local.store.sqlite import connect, translated_errors, uninterrupted
from chowder_local.store.tables import MetaRow

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Hashable,
        Iterable,
        Iterator,
    )
    from pathlib import Path

    from sqlalchemy import Select
    from sqlmodel import SQLModel


Value = TypeVar("Value")

_READERS = 4

CACHE_CAPACITY = 10_000
"""A cache with this many values is cleared, which is cheaper than tracking their use."""

PAGE_SIZE = 200
"""The number of rows that are processed at once, during which the event loop is blocked."""

# A 2xx follows its commit. After kill -9 the kernel still has all commits, with any setting. A
# power cut loses the last commits unless each is synced: with a WAL, FULL does that, and NORMAL
# only at checkpoints. It costs 0.3 to 3 ms a commit (ext4), for which no message or poll waits.
# fullfsync is for macOS.
_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
)


def in_pages(items: Iterable[Value]) -> Iterator[list[Value]]:
    """The items in lists that are written at once."""
    rest = iter(items)
    while page := list(islice(rest, PAGE_SIZE)):
        yield page


@dataclass(eq=False, repr=False)
class Database:
    """The open database; only `open` makes one."""

    path: Path
    readers: AsyncEngine
    writer: AsyncEngine

    def __post_init__(self) -> None:
        self._write_lock = asyncio.Lock()
        self.generation = 0
        """A number that grows with each write that invalidates the `ReadCache`s."""

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """The database in `path`, which it creates or migrates if necessary.

        Raises DataDirUnusable if the file cannot be used.
        """
        await asyncio.to_thread(prepare, path)
        readers = _engine(path, _READERS, "BEGIN", (*_PRAGMAS, "PRAGMA query_only = ON"))
        writer = _engine(path, 1, "BEGIN IMMEDIATE", _PRAGMAS)
        try:
            yield cls(path, readers, writer)
        finally:
            with uninterrupted():
                await readers.dispose()
                # The last connection merges the WAL into the file, which readers may not.
                await writer.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A read-only session that sees one state of the database."""
        with uninterrupted(), translated_errors(self.path):
            async with AsyncSession(self.readers, expire_on_commit=False) as session:
                yield session

    async def create(self, *rows: type[SQLModel]) -> None:
        """Makes tables of another package, which has no migrations here, if they are missing."""
        tables = [each.metadata.tables[str(each.__tablename__)] for each in rows]
        metadata = rows[0].metadata
        async with self.writing() as session:
            connection = await session.connection()
            await connection.run_sync(partial(metadata.create_all, tables=tables))

    async def pages(self, query: Select[Any]) -> AsyncGenerator[list[dict[str, Any]]]:
        """The rows of a query as mappings by column, in pages, from one state of the database.

        Close the iterator to stop early. Row objects would take three times as long.
        """
        async with self.reading() as session:
            results = await session.stream(query, execution_options={"yield_per": PAGE_SIZE})
            names = tuple(results.keys())
            async for page in results.partitions():
                yield [dict(zip(names, row, strict=True)) for row in page]

    @asynccontextmanager
    async def writing(self, *, invalidates_caches: bool = True) -> AsyncIterator[AsyncSession]:
        """The only writing transaction: committed at the end, rolled back on an error.

        `invalidates_caches` says whether it changes values that a `ReadCache` holds.
        """
        # Waiting for this lock is fair; SQLite itself would sleep, and then may fail.
        async with self._write_lock:
            try:
                with uninterrupted(), translated_errors(self.path):
                    async with AsyncSession(self.writer, expire_on_commit=False) as session:
                        yield session
                        await session.commit()
            finally:
                # Also after an error: a cancelled transaction may have been committed.
                self.generation += invalidates_caches


@dataclass(eq=False, repr=False)
class ReadCache(Generic[Value]):
    """A cache of values from the database, which only this process writes.

    Every request needs its key and its instance, and reading these takes longer than the rest.
    """

    database: Database
    capacity: int = CACHE_CAPACITY

    def __post_init__(self) -> None:
        self._generation = self.database.generation
        self._values: dict[Hashable, Value] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Value | None]]) -> Value | None:
        """The cached value, or the result of `read`."""
        generation = self.database.generation
        if generation != self._generation:
            self._values.clear()
            self._generation = generation
        elif key in self._values:
            return self._values[key]
        value = await read()
        # A write during the read may have changed the value. Missing values are not cached, so
        # that invented keys cannot fill the memory.
        if value is not None and generation == self.database.generation:
            if len(self._values) >= self.capacity:
                self._values.clear()
            self._values[key] = value
        return value


def _engine(path: Path, size: int, begin: str, pragmas: tuple[str, ...]) -> AsyncEngine:
    engine = create_async_engine(
        # `connect` opens the path; here it tells SQLAlchemy that the database is a file.
        URL.create("sqlite+aiosqlite", database=str(path)),
        async_creator=partial(connect, path),
        pool_size=size,
        max_overflow=0,
        pool_timeout=None,
    )

    def on_connect(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    return engine


@dataclass(eq=False, repr=False)
class MetaQueries:
    """Values by name."""

    database: Database

    async def get(self, name: str) -> str | None:
        async with self.database.reading() as session:
            row = await session.get(MetaRow, name)
            return None if row is None else row.value

    async def put_if_absent(self, name: str, value: str) -> str:
        """The existing value, or else the new one, which it stores."""
        async with self.database.writing() as session:
            row = await session.get(MetaRow, name)
            if row is not None:
                return row.value
            session.add(MetaRow(name=name, value=value))
            return value

    async def put(self, name: str, value: str) -> None:
        async with self.database.writing() as session:
            await session.merge(MetaRow(name=name, value=value))
