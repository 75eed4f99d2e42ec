"""Tasks that end with the block, or the call, that owns them, and loops that outlive a defect."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

log = logging.getLogger(__name__)

First = TypeVar("First")
Second = TypeVar("Second")


class _Over(Exception):
    """Cancels a task group from inside, which has no other way."""


@asynccontextmanager
async def owned_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A group whose tasks are cancelled, and waited for, at the end of the block.

    An error of the block comes out as it is, where a bare TaskGroup would wrap it; an error
    of a task cancels the block and comes out in an ExceptionGroup.
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
def contained(what: str) -> Iterator[None]:
    """Logs what fails within the block and goes on after it, with a traceback if unexpected.

    For work that nobody waits for: what else the loop or the server does must outlive it. `what`
    names the work, as in "sandbox chowder-1: reconciling".
    """
    try:
        yield
    except ChowderError as problem:
        log.warning("%s put off: %s", what, problem)
    except Exception:
        log.exception("%s failed unexpectedly", what)


async def every(interval_s: float, what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Does some work again and again, with a pause before each round, until it is cancelled.

    A round that fails is logged, and the next one may succeed; `what` is as in `contained`.
    """
    while True:
        await asyncio.sleep(interval_s)
        with contained(what):
            await work()


async def together(first: Awaitable[First], second: Awaitable[Second]) -> tuple[First, Second]:
    """What two give that go on at once; both have ended when it returns, or raises a failure."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(other, BaseException):
        raise other
    return one, other


async def _end() -> None:
    raise _Over
