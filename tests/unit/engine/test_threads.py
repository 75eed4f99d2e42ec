"""Running blocking calls in a bounded pool of threads."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.threads import EngineProbe, Threads, ensure_awaited
from tests.scripted.serving import eventually

DEADLINE_S = 10.0


class Blocking:
    """Calls that block until `may_end` is set, and counts of them."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.lock = threading.Lock()
        self.running = 0
        self.most_at_once = 0
        self.ended = 0

    def call(self) -> str:
        with self.lock:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        self.begun.release()
        assert self.may_end.wait(DEADLINE_S)
        with self.lock:
            self.running -= 1
            self.ended += 1
        return threading.current_thread().name

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=DEADLINE_S)


@pytest.fixture
def blocking() -> Blocking:
    return Blocking()


async def test_a_call_runs_in_a_thread_of_the_pool_and_gives_its_result(blocking: Blocking) -> None:
    blocking.may_end.set()
    with Threads(1, "engine") as threads:
        assert (await threads.run(blocking.call)).startswith("engine")
        assert await threads.run(max, [1, 3, 2], key=lambda number: -number) == 1


async def test_an_exception_of_a_call_is_raised_to_its_caller() -> None:
    with Threads(1, "engine") as threads, pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)


async def test_failed_calls_of_the_engine_are_counted() -> None:
    def fail(failure: Exception) -> None:
        raise failure

    with Threads(1, "engine") as threads:
        for failure in (EngineUnavailable("away"), EngineUnavailable("away"), KeyError("defect")):
            with pytest.raises(type(failure)):
                await threads.run(fail, failure)
        await threads.run(max, [1, 2])
        assert threads.failure_count == 2


async def test_no_more_calls_run_at_once_than_the_pool_has_threads(blocking: Blocking) -> None:
    with Threads(2, "engine") as threads:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(threads.run(blocking.call))
            await blocking.has_begun()
            await blocking.has_begun()
            blocking.may_end.set()
    assert blocking.ended == 5
    assert blocking.most_at_once == 2


async def test_the_event_loop_goes_on_while_a_call_blocks(blocking: Blocking) -> None:
    with Threads(1, "engine") as threads:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(threads.run(blocking.call))
            await blocking.has_begun()
            assert not task.done()
            blocking.may_end.set()


async def test_a_cancelled_caller_waits_for_its_call(blocking: Blocking) -> None:
    with Threads(1, "engine") as threads:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(threads.run(blocking.call))
            await blocking.has_begun()
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
            blocking.may_end.set()
    assert task.cancelled()
    assert blocking.ended == 1


async def test_a_call_that_was_cancelled_in_the_queue_does_not_run_later(
    blocking: Blocking,
) -> None:
    late: list[str] = []
    with Threads(1, "engine") as threads:
        async with asyncio.TaskGroup() as group:
            group.create_task(threads.run(blocking.call))
            await blocking.has_begun()
            waiting = group.create_task(threads.run(late.append, "done"))
            await asyncio.sleep(0)
            waiting.cancel()
            blocking.may_end.set()
        assert waiting.cancelled()
        # Whether it ran or not, it does not run after its caller has ended.
        before = list(late)
        await threads.run(lambda: None)
        assert late == before


async def test_a_failure_after_a_cancellation_is_no_unhandled_exception() -> None:
    may_end = threading.Event()
    begun = threading.Event()

    def fail() -> None:
        begun.set()
        assert may_end.wait(DEADLINE_S)
        raise ValueError

    with Threads(1, "engine") as threads:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(threads.run(fail))
            assert await asyncio.to_thread(begun.wait, DEADLINE_S)
            task.cancel()
            await asyncio.sleep(0)
            may_end.set()
    assert task.cancelled()


async def test_closing_waits_for_running_calls(blocking: Blocking) -> None:
    threads = Threads(1, "engine")
    async with asyncio.TaskGroup() as group:
        with threads:
            group.create_task(threads.run(blocking.call))
            await blocking.has_begun()
            releaser = threading.Timer(0.05, blocking.may_end.set)
            releaser.start()
        assert blocking.ended == 1
    releaser.join()
    with pytest.raises(RuntimeError):
        await threads.run(blocking.call)


async def test_closing_cancels_queued_calls(blocking: Blocking) -> None:
    late: list[str] = []
    async with asyncio.TaskGroup() as group:
        with Threads(1, "engine") as threads:
            group.create_task(threads.run(blocking.call))
            await blocking.has_begun()
            waiting = group.create_task(threads.run(late.append, "done"))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
            releaser = threading.Timer(0.05, blocking.may_end.set)
            releaser.start()
    releaser.join()
    assert waiting.cancelled()
    assert late == []


# An engine that hangs


class Hanging:
    """A question that fails as long as the engine hangs."""

    def __init__(self) -> None:
        self.hangs = True
        self.question_count = 0

    def question(self) -> str:
        self.question_count += 1
        if self.hangs:
            raise EngineUnavailable("It hangs.")
        return "Engine 1.0"


@pytest.fixture
def engine() -> Hanging:
    return Hanging()


@pytest.fixture
def hanging(engine: Hanging, blocking: Blocking) -> Iterator[Threads]:
    """A pool of two threads whose callers probe the engine almost at once."""
    with (
        closing(EngineProbe(engine.question, "probe", rest_s=0)) as probe,
        Threads(2, "engine", probe, patience_s=0.01) as threads,
    ):
        yield threads
        blocking.may_end.set()


async def test_all_callers_stop_waiting_for_an_engine_that_hangs(
    hanging: Threads, blocking: Blocking, engine: Hanging
) -> None:
    # More calls than threads, so queued callers are tested, too.
    calls = [hanging.run(blocking.call) for _ in range(5)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["It hangs."] * 5
    assert hanging.failure_count == 5
    # Only the first two have begun; no other ever will.
    with pytest.raises(EngineUnavailable):
        await hanging.run(blocking.call)
    assert blocking.running <= 2
    blocking.may_end.set()
    engine.hangs = False
    assert await hanging.run(max, [1, 3, 2]) == 3
    assert blocking.ended <= 2


async def test_the_probe_answers_while_all_threads_are_blocked(
    hanging: Threads, blocking: Blocking, engine: Hanging
) -> None:
    engine.hangs = False
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hanging.run(blocking.call))
        await blocking.has_begun()
        await blocking.has_begun()
        assert await hanging.probe() == "Engine 1.0"
        blocking.may_end.set()


async def test_a_slow_call_is_awaited_while_the_engine_answers(
    hanging: Threads, blocking: Blocking, engine: Hanging
) -> None:
    engine.hangs = False
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(hanging.run(blocking.call))
        await eventually(
            lambda: engine.question_count >= 3, "the engine was probed again and again"
        )
        assert not slow.done()
        blocking.may_end.set()
    assert slow.result().startswith("engine")


async def test_a_cancelled_caller_does_not_wait_for_an_engine_that_hangs(
    hanging: Threads, blocking: Blocking, engine: Hanging
) -> None:
    engine.hangs = False
    waiting = asyncio.ensure_future(hanging.run(blocking.call))
    await blocking.has_begun()
    engine.hangs = True
    waiting.cancel()
    # Its call still blocks.
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert blocking.ended == 0


async def test_an_abandoned_call_does_not_take_its_next_step(
    hanging: Threads, blocking: Blocking
) -> None:
    ended, steps = threading.Event(), []

    def call() -> None:
        steps.append("first")
        try:
            blocking.call()
            ensure_awaited()
            steps.append("second")
        finally:
            ended.set()

    with pytest.raises(EngineUnavailable, match="It hangs"):
        await hanging.run(call)
    blocking.may_end.set()
    assert await asyncio.to_thread(ended.wait, DEADLINE_S)
    assert steps == ["first"]


async def test_an_awaited_call_takes_its_next_step() -> None:
    with Threads(1, "engine") as threads:
        await threads.run(ensure_awaited)
    # Outside of a call, nothing is raised.
    ensure_awaited()
