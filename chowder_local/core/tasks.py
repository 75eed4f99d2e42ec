"""Tasks that end with their block, loops that survive failures, locks by key, and the shutdown."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Hashable,
        Iterator,
    )

log = logging.getLogger(__name__)


class KeyedLocks:
    """One lock for each key. A lock exists while it is referenced."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def holding(self, key: Hashable) -> asyncio.Lock:
        """The lock of a key, to be entered; all callers of the same moment get the same one."""
        return self._locks.setdefault(key, asyncio.Lock())

    def is_held(self, key: Hashable) -> bool:
        lock = self._locks.get(key)
        return lock is not None and lock.locked()


class Shutdown:
    """Calls callbacks when the server stops accepting requests."""

    def __init__(self) -> None:
        self.has_begun = False
        self._ends: dict[object, Callable[[], None]] = {}

    def begin(self) -> None:
        """Calls all callbacks; a second call does nothing."""
        self.has_begun = True
        while self._ends:
            _, end = self._ends.popitem()
            end()

    @contextmanager
    def on_shutdown(self, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end` when the shutdown begins within the block, or at once if it has begun."""
        # Callbacks are cheaper than a waiting task for each of many streams.
        token = object()
        if self.has_begun:
            end()
        else:
            self._ends[token] = end
        try:
            yield
        finally:
            self._ends.pop(token, None)


First = TypeVar("First")
Second = TypeVar("Second")

WATCH_INTERVAL_S = 5.0
"""As often as one slow call probes the engine."""


class _Over(Exception):
    """Cancels a task group from inside, for which the group has no method."""


@asynccontextmanager
async def owned_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A group whose tasks are cancelled and awaited at the end of the block.

    Raises an error of the block as it is, where a bare TaskGroup would wrap it. An error of a task
    cancels the block and is raised in an ExceptionGroup.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as raised:  # noqa: BLE001 - carried around the group and raised below
                failure = raised
            group.create_task(_end())
    except* _Over:
        pass
    if failure is not None:
        raise failure


@contextmanager
def logging_errors(what: str) -> Iterator[None]:
    """Logs an error of the block and continues after it; an unexpected one with a traceback.

    For work in the background, whose failure must not end its loop. `what` names the work, as in
    "sandbox chowder-1: reconciling".
    """
    try:
        yield
    except ChowderError as error:
        log.warning("%s postponed: %s", what, error)
    except Exception:
        log.exception("%s failed unexpectedly", what)


async def run_every(interval_s: float, what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Repeats the work with a pause before each round, until it is cancelled.

    Logs a round that fails, and continues. `what` is as in `logging_errors`.
    """
    while True:
        await asyncio.sleep(interval_s)
        with logging_errors(what):
            await work()


async def gather_both(first: Awaitable[First], second: Awaitable[Second]) -> tuple[First, Second]:
    """The results of two concurrent awaitables. Raises a failure after both have ended."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


@asynccontextmanager
async def watched(check: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Calls `check` at intervals during the block, which ends with the error that this raises."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            await check()

    async with ended_by(watch()):
        yield


@asynccontextmanager
async def ended_by(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `watch` during the block, which ends with the error that this raises."""
    try:
        async with owned_tasks() as group:
            group.create_task(watch)
            yield
    except ExceptionGroup as failed:
        # The group wraps what either raises. The first has cancelled the other.
        raise failed.exceptions[0] from None


async def _end() -> None:
    raise _Over
