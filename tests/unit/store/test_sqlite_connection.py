"""Calls of the driver complete, and a cancellation during a call is raised afterwards."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chowder_local.store.sqlite import connect, uninterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiosqlite

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) SELECT i FROM n"


async def test_a_cancelled_call_completes_before_its_task_is_cancelled(tmp_path: Path) -> None:
    started, finish = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    steps: list[str] = []

    def slow() -> int:
        loop.call_soon_threadsafe(started.set)
        finish.wait(10)
        return 1

    async def work() -> None:
        connection = await connect(tmp_path / "some.db")
        try:
            await connection.create_function("slow", 0, slow)
            with uninterrupted():
                async with connection.execute("SELECT slow()") as cursor:
                    assert await cursor.fetchone() == (1,)
                steps.append("the block went on")
            steps.append("nothing after the block runs")
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work())
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        finish.set()
    assert task.cancelled()
    assert steps == ["the block went on"]


@pytest.mark.parametrize("yields", [1, 2, 3])
async def test_a_connection_opened_during_a_cancellation_can_be_closed(
    tmp_path: Path, yields: int
) -> None:
    connecting = asyncio.create_task(connect(tmp_path / "some.db"))
    for _ in range(yields):
        await asyncio.sleep(0)
    connecting.cancel()
    connection = await connecting
    await connection.execute("SELECT 1")
    await connection.close()


async def test_a_cancellation_replaces_an_error_of_the_block(tmp_path: Path) -> None:
    async def work() -> None:
        connection = await connect(tmp_path / "some.db")
        try:
            with uninterrupted():
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await connection.execute("SELECT 1")
                raise KeyError
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work())
    assert task.cancelled()


async def test_a_timeout_raises_timeout_error(tmp_path: Path) -> None:
    connection = await connect(tmp_path / "some.db")

    async def wait_long() -> None:
        async with asyncio.timeout(0):
            with uninterrupted():
                for _ in range(3):
                    await connection.execute("SELECT 1")

    with pytest.raises(TimeoutError):
        await wait_long()
    await connection.close()


async def test_an_error_of_the_block_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyError), uninterrupted():
        raise KeyError


async def test_a_closed_connection_raises_an_error(tmp_path: Path) -> None:
    connection = await connect(tmp_path / "some.db")
    cursor = await connection.cursor().__aenter__()
    await connection.close()
    with pytest.raises(ValueError, match="Connection closed"):
        await cursor.execute("SELECT 1")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    connection = await connect(path / "some.db")
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 200])
async def test_a_cursor_gives_all_rows_in_order_however_they_are_fetched(
    tmp_path: Path, count: int
) -> None:
    expected = [(number,) for number in range(1, count + 1)]
    async with opened(tmp_path) as connection, connection.cursor() as cursor:
        await cursor.execute(NUMBERS, (count,))
        assert [*await cursor.fetchall()] == expected
        assert [*await cursor.fetchall()] == []
        await cursor.execute(NUMBERS, (count,))
        assert [await cursor.fetchone() for _ in range(count + 1)] == [*expected, None]
        await cursor.execute(NUMBERS, (count,))
        one, some, rest = (
            [*await cursor.fetchmany()],
            [*await cursor.fetchmany(70)],
            await cursor.fetchall(),
        )
        assert [*one, *some, *rest] == expected
        assert (len(one), len(some)) == (1, min(70, count - 1))
        # What was not fetched of one statement is none of the next one's.
        await cursor.execute(NUMBERS, (count,))
        await cursor.execute("SELECT 'next'")
        assert [*await cursor.fetchall()] == [("next",)]


async def test_a_statement_with_few_rows_takes_one_call_of_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as connection:
        calls: list[object] = []
        original = connection._call  # type: ignore[attr-defined]

        async def counted(function: object) -> object:
            calls.append(function)
            return await original(function)

        monkeypatch.setattr(connection, "_call", counted)
        async with connection.cursor() as cursor:
            await cursor.execute(NUMBERS, (60,))
            assert len([*await cursor.fetchall()]) == 60
        await connection.rollback()
        assert len(calls) == 1


@pytest.mark.parametrize("count", [1, 64, 200])
async def test_a_closed_cursor_holds_no_lock(tmp_path: Path, count: int) -> None:
    async with opened(tmp_path) as connection, opened(tmp_path) as other:
        async with connection.cursor() as cursor:
            await cursor.execute("CREATE TABLE numbers (i INTEGER)")
            await cursor.executemany("INSERT INTO numbers VALUES (?)", [(1,)] * count)
            assert cursor.rowcount == count
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT i FROM numbers")
        async with other.cursor() as cursor:
            await cursor.execute("BEGIN EXCLUSIVE")
            await cursor.execute("ROLLBACK")


async def test_a_rollback_undoes_what_was_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as connection, connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE numbers (i INTEGER)")
        await cursor.execute("BEGIN IMMEDIATE")
        await cursor.execute("INSERT INTO numbers VALUES (1) RETURNING i")
        assert await cursor.fetchone() == (1,)
        await connection.rollback()
        await cursor.execute("SELECT i FROM numbers")
        assert [*await cursor.fetchall()] == []
