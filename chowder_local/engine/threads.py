"""The single door to blocking code: a bounded pool of threads that the engine's calls run in."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from chowder_local.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A pool of `size` threads; closing it waits for the calls that are under way."""

    def __init__(self, size: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
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
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, from a thread; the call must be bounded in time by itself."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, partial(call, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except EngineUnavailable:
            self.failure_count += 1
            raise
        except asyncio.CancelledError:
            # A thread cannot be cancelled. Leaving it behind would let a half-made container
            # appear after its deletion, so the cancelled caller waits for it first.
            await asyncio.wait([work])
            if not work.cancelled():
                # Looked at, or asyncio would log it as a failure that nobody handled.
                work.exception()
            raise
