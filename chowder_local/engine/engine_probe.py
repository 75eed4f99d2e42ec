"""Whether the engine answers at all, asked on a line that no other call can hold up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

REST_S = 1.0
"""How long a question that had no answer is not put again, or callers in a row would all wait."""


class EngineProbe:
    """Asks a question that any engine answers at once, in a thread of its own.

    The question must be bounded in time by itself; it raises EngineUnavailable.
    """

    def __init__(self, question: Callable[[], str], name: str, rest_s: float = REST_S) -> None:
        self._question = question
        self._rest_s = rest_s
        self._thread = Workers(1, name)
        self._asking: asyncio.Future[str] | None = None
        self._failure: EngineUnavailable | None = None
        self._rests_until_s = 0.0

    @property
    def is_lost(self) -> bool:
        """Whether the last question had no answer."""
        return self._failure is not None

    async def ask(self) -> str:
        """The answer. Whoever asks while another waits for it gets the same one.

        Raises EngineUnavailable.
        """
        asking = self._asking
        if self._failure is not None and time.monotonic() < self._rests_until_s:
            raise type(self._failure)(str(self._failure))
        if asking is None:
            asking = asyncio.get_running_loop().run_in_executor(self._thread, self._question)
            asking.add_done_callback(self._heard)
            self._asking = asking
        # Of those who wait, one that is cancelled must not take the answer from the others.
        return await asyncio.shield(asking)

    def close(self) -> None:
        """Waits for a question that is under way."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _heard(self, asking: asyncio.Future[str]) -> None:
        self._asking = None
        if asking.cancelled():
            return
        failure = asking.exception()
        self._failure = failure if isinstance(failure, EngineUnavailable) else None
        self._rests_until_s = time.monotonic() + self._rest_s
