"""Answers from memory what was read before, until anything at all is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from chowder_local.store.database import Database

Value = TypeVar("Value")

CAPACITY = 10_000
"""After so many it begins anew: that costs less than knowing which of them is read again."""


class ReadCache(Generic[Value]):
    """Values of one kind; sound because this process is the only one that writes.

    Every request reads its key and its instance, and reading the file takes longer than answering
    the request.
    """

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        self._database = database
        self._capacity = capacity
        self._generation = database.generation
        self._values: dict[Hashable, Value] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Value | None]]) -> Value | None:
        """What `read` finds, or found since the last write."""
        generation = self._database.generation
        if generation != self._generation:
            self._values.clear()
            self._generation = generation
        elif key in self._values:
            return self._values[key]
        value = await read()
        # A write that overtook the read may have changed the value. What is not there is not
        # kept, so that made-up keys cannot fill the memory.
        if value is not None and generation == self._database.generation:
            if len(self._values) >= self._capacity:
                self._values.clear()
            self._values[key] = value
        return value
