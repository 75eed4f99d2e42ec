"""The single door to blocking code: a bounded pool of threads that the engine's calls run in."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.engine_probe import EngineProbe
from chowder_local.engine.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 5.0
"""After how long a call's caller asks whether the engine still answers at all."""

_this_thread = threading.local()


class Threads:
    """A pool of `size` threads; closing it waits for the calls of an engine that answers.

    An engine that hangs would keep each call for as long as a call may take, and whoever comes
    after it for as long again; so callers go as soon as it is known to hang, and no others begin.
    """

    def __init__(
        self,
        size: int,
        name: str,
        hearing: EngineProbe | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._pool = Workers(size, name)
        self._hearing = hearing or EngineProbe(str, f"{name}-hearing")
        self._patience_s = patience_s
        self.failure_count = 0
        """How many calls the engine did not do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Of an engine that hangs, no answers are to come that would be worth waiting for.
        self._pool.shutdown(wait=not self._hearing.is_lost, cancel_futures=True)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, from a thread; the call must be bounded in time by itself.

        Raises EngineUnavailable, at once or within the call, as soon as the engine is not heard.
        """
        try:
            if self._hearing.is_lost:
                await self._hearing.ask()
            waiting = _Waiting()
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(
                self._pool, _in_thread, waiting, partial(call, *args, **kwargs)
            )
            try:
                return await self._result(work, waiting)
            except asyncio.CancelledError:
                # A thread cannot be cancelled. Leaving it behind would let a half-made container
                # appear after its deletion, so the cancelled caller waits for it first.
                with suppress(Exception):
                    await self._result(work, waiting)
                raise
        except EngineUnavailable:
            self.failure_count += 1
            raise

    async def hear(self) -> str:
        """What the engine answers, even while no call of the pool gets an answer."""
        try:
            return await self._hearing.ask()
        except EngineUnavailable:
            self.failure_count += 1
            raise

    async def _result(self, work: asyncio.Future[T], waiting: _Waiting) -> T:
        while not (await asyncio.wait([work], timeout=self._patience_s))[0]:
            try:
                await self._hearing.ask()
            except EngineUnavailable:
                waiting.is_over = True
                # What has not begun never will; of what has, nobody hears any more.
                work.cancel()
                raise
        return work.result()


def ensure_awaited() -> None:
    """Between the steps of a call: raises EngineUnavailable if its caller has given it up.

    What it would do next might undo what somebody has done meanwhile.
    """
    waiting: _Waiting | None = getattr(_this_thread, "waiting", None)
    if waiting is not None and waiting.is_over:
        raise EngineUnavailable("Nobody waits for this call to the engine any more.")


@dataclass
class _Waiting:
    """What a call's thread may know of its caller."""

    is_over: bool = False


def _in_thread(waiting: _Waiting, call: Callable[[], T]) -> T:
    _this_thread.waiting = waiting
    try:
        return call()
    finally:
        _this_thread.waiting = None
