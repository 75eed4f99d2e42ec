"""A cache never returns a value that the database no longer has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chowder_local.store.database import MetaQueries, ReadCache

if TYPE_CHECKING:
    from chowder_local.store.database import Database


class Reader:
    """A reader that counts its reads."""

    def __init__(self, database: Database) -> None:
        self.meta = MetaQueries(database)
        self.reads = 0

    async def read(self) -> str | None:
        self.reads += 1
        return await self.meta.get("a")


async def test_a_second_read_is_answered_from_memory(database: Database) -> None:
    reader, read_cache = Reader(database), ReadCache[str](database)
    await reader.meta.put("a", "1")
    assert [await read_cache.get("a", reader.read) for _ in range(3)] == ["1", "1", "1"]
    assert reader.reads == 1


async def test_a_read_after_a_write_is_not_answered_from_memory(database: Database) -> None:
    reader, read_cache = Reader(database), ReadCache[str](database)
    for value in ("1", "2", "3"):
        await reader.meta.put("a", value)
        assert await read_cache.get("a", reader.read) == value


async def test_a_missing_value_is_not_cached(database: Database) -> None:
    reader, read_cache = Reader(database), ReadCache[str](database)
    assert [await read_cache.get("a", reader.read) for _ in range(2)] == [None, None]
    assert reader.reads == 2


async def test_a_value_read_during_a_write_is_not_cached(database: Database) -> None:
    reader, read_cache = Reader(database), ReadCache[str](database)
    await reader.meta.put("a", "old")
    has_read, may_answer = asyncio.Event(), asyncio.Event()

    async def read_slowly() -> str | None:
        value = await reader.read()
        has_read.set()
        await may_answer.wait()
        return value

    async with asyncio.TaskGroup() as tasks:
        overtaken = tasks.create_task(read_cache.get("a", read_slowly))
        await has_read.wait()
        await reader.meta.put("a", "new")
        # A read in between must not make the outdated value look current.
        await read_cache.get("b", reader.read)
        may_answer.set()
    assert overtaken.result() == "old"
    assert await read_cache.get("a", reader.read) == "new"


async def test_the_size_of_a_cache_is_limited(database: Database) -> None:
    reader, read_cache = Reader(database), ReadCache[str](database, capacity=2)
    await reader.meta.put("a", "1")
    for key in ("one", "two", "three"):
        await read_cache.get(key, reader.read)
    await read_cache.get("three", reader.read)
    assert reader.reads == 3
    await read_cache.get("one", reader.read)
    assert reader.reads == 4
