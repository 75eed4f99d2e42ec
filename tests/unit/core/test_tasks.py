"""Tasks end with their block, and its errors are raised unwrapped."""

from __future__ import annotations

import asyncio

import pytest

from chowder_local.core.errors import ChowderError
from chowder_local.core.tasks import gather_both, logging_errors, owned_tasks, run_every


async def test_tasks_are_cancelled_and_awaited_at_the_end_of_the_block() -> None:
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with owned_tasks() as group:
        task = group.create_task(forever())
        await asyncio.sleep(0)
    assert ended.is_set()
    assert task.cancelled()


async def test_an_error_of_the_block_is_raised_unwrapped_and_ends_the_tasks() -> None:
    async def failing() -> None:
        async with owned_tasks() as group:
            tasks.append(group.create_task(asyncio.Event().wait()))
            raise LookupError("the block's own")

    tasks: list[asyncio.Task[bool]] = []
    with pytest.raises(LookupError, match="the block's own"):
        await failing()
    assert tasks[0].cancelled()


async def test_an_error_of_a_task_ends_the_block() -> None:
    async def fail() -> None:
        raise LookupError("the task's")

    async def waiting() -> None:
        async with owned_tasks() as group:
            group.create_task(fail())
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await waiting()
    assert caught.group_contains(LookupError, match="the task's")


async def test_cancelling_the_owner_cancels_the_tasks() -> None:
    async def owner() -> None:
        async with owned_tasks() as group:
            tasks.append(group.create_task(asyncio.Event().wait()))
            begun.set()
            await asyncio.Event().wait()

    tasks: list[asyncio.Task[bool]] = []
    begun = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        owning = group.create_task(owner())
        await begun.wait()
        owning.cancel()
    assert owning.cancelled()
    assert tasks[0].cancelled()


async def test_both_of_two_awaitables_end_even_if_one_fails() -> None:
    async def fail() -> None:
        raise LookupError("the first")

    async def work() -> str:
        await asyncio.sleep(0)
        ended.append("the second")
        return "done"

    ended: list[str] = []
    assert await gather_both(work(), work()) == ("done", "done")
    for pair in ((fail(), work()), (work(), fail())):
        ended.clear()
        with pytest.raises(LookupError, match="the first"):
            await gather_both(*pair)
        assert ended == ["the second"]


@pytest.mark.parametrize(
    ("failure", "line", "has_traceback"),
    [
        (ChowderError("No."), "the work postponed: No.", False),
        (RuntimeError("x"), "the work failed unexpectedly", True),
    ],
)
def test_a_failure_of_background_work_is_logged(
    caplog: pytest.LogCaptureFixture, failure: Exception, line: str, has_traceback: bool
) -> None:
    def fail() -> None:
        raise failure

    with logging_errors("the work"):
        fail()
    (record,) = caplog.records
    assert (record.getMessage(), record.exc_info is not None) == (line, has_traceback)


async def test_work_is_repeated_after_a_failure() -> None:
    rounds = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            raise RuntimeError("a defect")
        done.set()

    async with owned_tasks() as group:
        group.create_task(run_every(0.001, "working", work))
        assert rounds == 0
        await asyncio.wait_for(done.wait(), 10)
