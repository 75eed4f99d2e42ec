"""Probing whether the engine answers, past all calls that wait for it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.threads import EngineProbe

DEADLINE_S = 10.0


class Engine:
    """Answers or fails once `may_answer` is set."""

    def __init__(self) -> None:
        self.is_up = True
        self.question_count = 0
        self.may_answer = threading.Event()

    def question(self) -> str:
        self.question_count += 1
        assert self.may_answer.wait(DEADLINE_S)
        if not self.is_up:
            raise EngineUnavailable("engine away")
        return f"answer {self.question_count}"


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def probe(engine: Engine) -> Iterator[EngineProbe]:
    with closing(EngineProbe(engine.question, "probe", rest_s=0)) as probe:
        yield probe


async def test_concurrent_callers_share_an_answer(engine: Engine, probe: EngineProbe) -> None:
    callers = [asyncio.ensure_future(probe.ask()) for _ in range(20)]
    await asyncio.sleep(0)
    engine.may_answer.set()
    assert set(await asyncio.gather(*callers)) == {"answer 1"}
    assert await probe.ask() == "answer 2"


async def test_a_cancelled_caller_leaves_the_answer_to_the_others(
    engine: Engine, probe: EngineProbe
) -> None:
    leaving, staying = (asyncio.ensure_future(probe.ask()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    engine.may_answer.set()
    assert await staying == "answer 1"
    assert leaving.cancelled()


async def test_an_engine_is_lost_until_it_answers_again(engine: Engine, probe: EngineProbe) -> None:
    engine.may_answer.set()
    engine.is_up = False
    with pytest.raises(EngineUnavailable, match="engine away"):
        await probe.ask()
    assert probe.is_lost
    engine.is_up = True
    await probe.ask()
    assert not probe.is_lost


async def test_a_failure_without_callers_is_no_unhandled_exception(
    engine: Engine, probe: EngineProbe
) -> None:
    engine.is_up = False
    callers = asyncio.ensure_future(probe.ask())
    await asyncio.sleep(0)
    callers.cancel()
    engine.may_answer.set()
    # During the question or after it, this call retrieves the failure.
    with pytest.raises(EngineUnavailable):
        await probe.ask()


async def test_a_failed_probe_is_not_repeated_at_once(engine: Engine) -> None:
    engine.may_answer.set()
    engine.is_up = False
    with closing(EngineProbe(engine.question, "probe", rest_s=DEADLINE_S)) as probe:
        for _ in range(5):
            with pytest.raises(EngineUnavailable, match="engine away"):
                await probe.ask()
    assert engine.question_count == 1
