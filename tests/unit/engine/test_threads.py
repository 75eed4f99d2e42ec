"""The door to blocking code: bounded, and nothing is left behind."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.threads import EngineProbe, Threads, ensure_awaited
from tests.scripted.serving import eventually

DEADLINE_S = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Blocking:
    """Calls that block until they are let go, and what is known of them."""

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


async def test_what_a_call_raises_is_raised_to_its_caller() -> None:
    with Threads(1, "engine") as threads, pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)


async def test_what_the_engine_did_not_do_is_counted() -> None:
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


async def test_a_caller_cancelled_before_its_turn_leaves_nothing_to_happen_later(
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
        # Whether it ran or not, it is over when its caller is.
        before = list(late)
        await threads.run(lambda: None)
        assert late == before


async def test_a_failure_of_a_call_whose_caller_was_cancelled_is_no_ones_surprise() -> None:
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


async def test_closing_waits_for_the_calls_that_are_under_way(blocking: Blocking) -> None:
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


async def test_closing_calls_off_what_has_not_begun(blocking: Blocking) -> None:
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


class Deaf:
    """A question that has no answer as long as the engine hangs."""

    def __init__(self) -> None:
        self.hangs = True
        self.asked = 0

    def question(self) -> str:
        self.asked += 1
        if self.hangs:
            raise EngineUnavailable("It hangs.")
        return "Engine 1.0"


@pytest.fixture
def deaf() -> Deaf:
    return Deaf()


@pytest.fixture
def hanging(deaf: Deaf, blocking: Blocking) -> Iterator[Threads]:
    """Two threads, whose callers have next to no patience."""
    with (
        closing(EngineProbe(deaf.question, "hearing", rest_s=0)) as hearing,
        Threads(2, "engine", hearing, patience_s=0.01) as threads,
    ):
        yield threads
        blocking.may_end.set()


async def test_nobody_waits_for_an_engine_that_is_known_to_hang(
    hanging: Threads, blocking: Blocking, deaf: Deaf
) -> None:
    # More than there are threads: those whose turn has not come go, too.
    calls = [hanging.run(blocking.call) for _ in range(5)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["It hangs."] * 5
    assert hanging.failure_count == 5
    # None but those two whose answers may still come has begun, or ever will.
    with pytest.raises(EngineUnavailable):
        await hanging.run(blocking.call)
    assert blocking.running <= 2
    blocking.may_end.set()
    deaf.hangs = False
    assert await hanging.run(max, [1, 3, 2]) == 3
    assert blocking.ended <= 2


async def test_what_an_engine_answers_is_heard_while_all_threads_wait_for_it(
    hanging: Threads, blocking: Blocking, deaf: Deaf
) -> None:
    deaf.hangs = False
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hanging.run(blocking.call))
        await blocking.has_begun()
        await blocking.has_begun()
        assert await hanging.probe() == "Engine 1.0"
        blocking.may_end.set()


async def test_a_slow_call_of_an_engine_that_answers_is_waited_for(
    hanging: Threads, blocking: Blocking, deaf: Deaf
) -> None:
    deaf.hangs = False
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(hanging.run(blocking.call))
        await eventually(lambda: deaf.asked >= 3, "it was asked after again and again")
        assert not slow.done()
        blocking.may_end.set()
    assert slow.result().startswith("engine")


async def test_a_cancelled_caller_does_not_wait_for_an_engine_that_hangs(
    hanging: Threads, blocking: Blocking, deaf: Deaf
) -> None:
    deaf.hangs = False
    waiting = asyncio.ensure_future(hanging.run(blocking.call))
    await blocking.has_begun()
    deaf.hangs = True
    waiting.cancel()
    # Its call has not ended, and does only when this test lets it.
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert blocking.ended == 0


async def test_a_call_that_was_given_up_does_not_take_its_next_step(
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


async def test_a_call_that_is_awaited_takes_its_next_step() -> None:
    with Threads(1, "engine") as threads:
        await threads.run(ensure_awaited)
    # Outside of any call there is nobody to give it up.
    ensure_awaited()
