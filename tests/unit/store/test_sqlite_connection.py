"""Calls of the driver complete, and a cancellation during a call is raised afterwards."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from chowder_local.store.sqlite import connect, uninterrupted

if TYPE_CHECKING:
    from pathlib import Path


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
    cursor = await connection.cursor()
    await connection.close()
    with pytest.raises(ValueError, match="Connection closed"):
        await cursor.execute("SELECT 1")
