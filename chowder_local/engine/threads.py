"""The single door to blocking code: a bounded pool of threads that the engine's calls run in."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from chowder_local.core.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 5.0
"""After how long a call's caller asks whether the engine still answers at all."""

REST_S = 1.0
"""How long a question that had no answer is not put again, or callers in a row would all wait."""

_this_thread = threading.local()


class Workers(Executor):
    """At most `size` threads, made when they are needed.

    A process that ends does not wait for them, unlike for those of the standard library.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._threads: list[threading.Thread] = []
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._is_closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Puts a call in the queue. Only one thread may do so."""
        if self._is_closed:
            raise RuntimeError("the workers are shut down")
        future: Future[T] = Future()
        self._work.put((future, lambda: fn(*args, **kwargs)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            name = f"{self._name}_{len(self._threads)}"
            # As a daemon: one whose call hangs would keep the process from its end.
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets no more calls in; waits for those that have begun if it is told to."""
        self._is_closed = True
        while cancel_futures and not self._work.empty():
            if (queued := self._work.get()) is not None:
                queued[0].cancel()
        for _ in self._threads:
            self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        while (queued := self._work.get()) is not None:
            future, call = queued
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as failure:  # noqa: BLE001 - the future's waiter gets it
                    future.set_exception(failure)
                else:
                    future.set_result(result)
            del future, call, queued
            self._idle.release()


class EngineProbe:
    """Asks whether the engine answers at all, in a thread that no other call can hold up.

    The question must be bounded in time by itself; it raises EngineUnavailable.
    """

    def __init__(self, question: Callable[[], str], name: str, rest_s: float = REST_S) -> None:
        self._question = question
        self._rest_s = rest_s
        self._thread = Workers(1, name)
        self._pending: asyncio.Future[str] | None = None
        self._failure: EngineUnavailable | None = None
        self._rests_until_s = 0.0

    @property
    def is_lost(self) -> bool:
        """Whether the last question had no answer."""
        return self._failure is not None

    async def ask(self) -> str:
        """The answer; callers at the same time get the same one.

        Raises EngineUnavailable.
        """
        pending = self._pending
        if self._failure is not None and time.monotonic() < self._rests_until_s:
            raise type(self._failure)(str(self._failure))
        if pending is None:
            pending = asyncio.get_running_loop().run_in_executor(self._thread, self._question)
            pending.add_done_callback(self._note)
            self._pending = pending
        # Of those who wait, one that is cancelled must not take the answer from the others.
        return await asyncio.shield(pending)

    def close(self) -> None:
        """Waits for a question that is under way."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _note(self, pending: asyncio.Future[str]) -> None:
        self._pending = None
        if pending.cancelled():
            return
        failure = pending.exception()
        self._failure = failure if isinstance(failure, EngineUnavailable) else None
        self._rests_until_s = time.monotonic() + self._rest_s


class Threads:
    """A pool of `size` threads; closing it waits for the calls of an engine that answers.

    An engine that hangs would keep each call for as long as a call may take, and whoever comes
    after it for as long again; so callers go as soon as it is known to hang, and no others begin.
    """

    def __init__(
        self,
        size: int,
        name: str,
        probe: EngineProbe | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._pool = Workers(size, name)
        self._probe = probe or EngineProbe(str, f"{name}-probe")
        self._patience_s = patience_s
        self.failure_count = 0
        """How many calls the engine did not do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Of an engine that hangs, no answers are to come that would be worth waiting for.
        self._pool.shutdown(wait=not self._probe.is_lost, cancel_futures=True)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, from a thread; the call must be bounded in time by itself.

        Raises EngineUnavailable, at once or within the call, as soon as the engine does not answer.
        """
        try:
            if self._probe.is_lost:
                await self._probe.ask()
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

    async def probe(self) -> str:
        """What the engine answers, even while no call of the pool gets an answer."""
        try:
            return await self._probe.ask()
        except EngineUnavailable:
            self.failure_count += 1
            raise

    async def _result(self, work: asyncio.Future[T], waiting: _Waiting) -> T:
        while not (await asyncio.wait([work], timeout=self._patience_s))[0]:
            try:
                await self._probe.ask()
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
    is_over: bool = False


def _in_thread(waiting: _Waiting, call: Callable[[], T]) -> T:
    _this_thread.waiting = waiting
    try:
        return call()
    finally:
        _this_thread.waiting = None
