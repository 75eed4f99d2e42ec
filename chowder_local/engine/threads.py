"""A bounded pool of threads for the engine's blocking calls; all of them run there."""

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
"""How often the caller of a slow call probes the engine."""

REST_S = 1.0
"""How long a failed probe is not repeated, so that callers in a row do not all wait."""

_this_thread = threading.local()


class Workers(Executor):
    """An executor of at most `size` threads, each started when it is needed.

    Unlike the standard library's, it does not delay the end of the process.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._threads: list[threading.Thread] = []
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._is_closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call. Only one thread may call this. Raises RuntimeError after `shutdown`."""
        if self._is_closed:
            raise RuntimeError("the workers are shut down")
        future: Future[T] = Future()
        self._work.put((future, lambda: fn(*args, **kwargs)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            name = f"{self._name}_{len(self._threads)}"
            # A daemon, because a call that hangs must not keep the process from ending.
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuses new calls, and with `wait`, waits for those that have begun."""
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
    """Checks in its own thread whether the engine answers, even while all other calls wait.

    `question` asks the engine. It must have a timeout, and raises EngineUnavailable.
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
        """Whether the last probe failed."""
        return self._failure is not None

    async def ask(self) -> str:
        """The engine's answer, which concurrent callers share.

        Raises EngineUnavailable if the probe fails, or failed less than `rest_s` ago.
        """
        pending = self._pending
        if self._failure is not None and time.monotonic() < self._rests_until_s:
            raise type(self._failure)(str(self._failure))
        if pending is None:
            pending = asyncio.get_running_loop().run_in_executor(self._thread, self._question)
            pending.add_done_callback(self._note)
            self._pending = pending
        # A cancelled caller must not cancel the probe of the others.
        return await asyncio.shield(pending)

    def close(self) -> None:
        """Waits for a running probe."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _note(self, pending: asyncio.Future[str]) -> None:
        self._pending = None
        if pending.cancelled():
            return
        failure = pending.exception()
        self._failure = failure if isinstance(failure, EngineUnavailable) else None
        self._rests_until_s = time.monotonic() + self._rest_s


class Threads:
    """A pool of `size` threads; closing it waits for running calls, if the engine answers.

    Calls to an engine that hangs would each last until their timeouts, and queue up. So callers
    stop waiting as soon as a probe fails, and no more calls begin until a probe succeeds.
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
        """How many calls raised EngineUnavailable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for running calls, if the engine answers."""
        # An engine that hangs has no answers to wait for.
        self._pool.shutdown(wait=not self._probe.is_lost, cancel_futures=True)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a call, which must have a timeout, in a thread, and returns its result.

        Raises EngineUnavailable as soon as a probe fails, and what the call raises.
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
                # A thread cannot be cancelled, and could create a container after its deletion.
                # So a cancelled caller waits for the call first.
                with suppress(Exception):
                    await self._result(work, waiting)
                raise
        except EngineUnavailable:
            self.failure_count += 1
            raise

    async def probe(self) -> str:
        """Probes the engine, past all calls of the pool. Raises EngineUnavailable if it fails."""
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
                # A call that has not begun never will; the result of one that has is dropped.
                work.cancel()
                raise
        return work.result()


def ensure_awaited() -> None:
    """Raises EngineUnavailable if the caller has stopped waiting for the call of this thread.

    Called between the steps of a call, because a late step could undo newer changes.
    """
    waiting: _Waiting | None = getattr(_this_thread, "waiting", None)
    if waiting is not None and waiting.is_over:
        raise EngineUnavailable("This call to the engine was given up by its caller.")


@dataclass
class _Waiting:
    is_over: bool = False


def _in_thread(waiting: _Waiting, call: Callable[[], T]) -> T:
    _this_thread.waiting = waiting
    try:
        return call()
    finally:
        _this_thread.waiting = None
