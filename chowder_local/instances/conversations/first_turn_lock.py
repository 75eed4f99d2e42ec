"""Serializing the first turns of a session."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cachetools import LRUCache

from chowder_local.core.tasks import KeyedLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

CAPACITY = 10_000


class FirstTurnLocks:
    """Sends messages to a new session one at a time, until the session exists.

    OpenClaw fails all but one of the messages that race to create a session. Once it exists,
    OpenClaw queues them itself.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        # An evicted session costs one more serialized turn.
        self._opened: LRUCache[Hashable, None] = LRUCache(capacity)
        self._locks = KeyedLocks()

    @asynccontextmanager
    async def turn(self, session: Hashable) -> AsyncIterator[Callable[[], None]]:
        """Holds a message's turn. The yielded function reports that the session exists."""
        lock = self._locks.holding(session)
        is_alone = session not in self._opened
        if is_alone:
            await lock.acquire()

        def opened() -> None:
            nonlocal is_alone
            self._opened[session] = None
            if is_alone:
                is_alone = False
                lock.release()

        if session in self._opened:
            opened()
        try:
            yield opened
        finally:
            if is_alone:
                lock.release()
