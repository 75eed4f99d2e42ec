"""The first turn of a session, which has to begin alone."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.core.keyed_lock import KeyedLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

CAPACITY = 10_000


class FirstTurnLocks:
    """Which sessions have had a turn; to one that has not, messages go one after the other.

    OpenClaw fails all but one of the messages that race to make a session. Once it is there, it
    puts them in a queue of its own.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        # A session that falls out is merely opened once more.
        self._opened: OrderedDict[Hashable, None] = OrderedDict()
        self._locks = KeyedLocks()

    @asynccontextmanager
    async def turn(self, session: Hashable) -> AsyncIterator[Callable[[], None]]:
        """A message's turn; call what you get once it is seen that the session is there."""
        lock = self._locks.holding(session)
        is_alone = session not in self._opened
        if is_alone:
            await lock.acquire()

        def opened() -> None:
            nonlocal is_alone
            self._opened[session] = None
            self._opened.move_to_end(session)
            if len(self._opened) > self._capacity:
                self._opened.popitem(last=False)
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
