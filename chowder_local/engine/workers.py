"""Threads that a process which ends does not wait for, unlike those of the standard library."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Workers(Executor):
    """At most `size` of them, made when they are needed."""

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
            raise RuntimeError("the workers have gone home")
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
