"""Hearing whether the engine answers, past all calls that wait for it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.threads import EngineProbe

DEADLINE_S = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Engine:
    """Answers, or not, once it may."""

    def __init__(self) -> None:
        self.is_there = True
        self.asked = 0
        self.may_answer = threading.Event()

    def question(self) -> str:
        self.asked += 1
        assert self.may_answer.wait(DEADLINE_S)
        if not self.is_there:
            raise EngineUnavailable("nobody there")
        return f"answer {self.asked}"


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def hearing(engine: Engine) -> Iterator[EngineProbe]:
    with closing(EngineProbe(engine.question, "hearing", rest_s=0)) as hearing:
        yield hearing


async def test_whoever_asks_meanwhile_gets_the_same_answer(
    engine: Engine, hearing: EngineProbe
) -> None:
    asking = [asyncio.ensure_future(hearing.ask()) for _ in range(20)]
    await asyncio.sleep(0)
    engine.may_answer.set()
    assert set(await asyncio.gather(*asking)) == {"answer 1"}
    assert await hearing.ask() == "answer 2"


async def test_one_that_leaves_takes_the_answer_from_nobody(
    engine: Engine, hearing: EngineProbe
) -> None:
    leaving, staying = (asyncio.ensure_future(hearing.ask()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    engine.may_answer.set()
    assert await staying == "answer 1"
    assert leaving.cancelled()


async def test_an_engine_is_lost_until_it_has_answered_again(
    engine: Engine, hearing: EngineProbe
) -> None:
    engine.may_answer.set()
    engine.is_there = False
    with pytest.raises(EngineUnavailable, match="nobody there"):
        await hearing.ask()
    assert hearing.is_lost
    engine.is_there = True
    await hearing.ask()
    assert not hearing.is_lost


async def test_a_question_whose_askers_have_left_is_no_ones_surprise(
    engine: Engine, hearing: EngineProbe
) -> None:
    engine.is_there = False
    asking = asyncio.ensure_future(hearing.ask())
    await asyncio.sleep(0)
    asking.cancel()
    engine.may_answer.set()
    # Asked while it is under way or after it: a failure either way, and looked at.
    with pytest.raises(EngineUnavailable):
        await hearing.ask()


async def test_callers_in_a_row_do_not_each_wait_for_one_that_is_silent(engine: Engine) -> None:
    engine.may_answer.set()
    engine.is_there = False
    with closing(EngineProbe(engine.question, "hearing", rest_s=DEADLINE_S)) as hearing:
        for _ in range(5):
            with pytest.raises(EngineUnavailable, match="nobody there"):
                await hearing.ask()
    assert engine.asked == 1
