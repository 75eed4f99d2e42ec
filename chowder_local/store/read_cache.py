"""Answers from memory what was read before, until anything at all is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from chowder_local.store.database import Database

Found = TypeVar("Found")

CAPACITY = 10_000
"""After so many it begins anew: that costs less than knowing which of them is asked for again."""


class ReadCache(Generic[Found]):
    """What one kind of question found; sound because this process is the only one that writes.

    Every request asks for its key and its instance, and to ask the file takes longer than to
    answer the request.
    """

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        self._database = database
        self._capacity = capacity
        self._generation = database.generation
        self._found: dict[Hashable, Found] = {}

    async def of(
        self, asked: Hashable, read: Callable[[], Awaitable[Found | None]]
    ) -> Found | None:
        """What `read` finds, or found since the last write."""
        generation = self._database.generation
        if generation != self._generation:
            self._found.clear()
            self._generation = generation
        elif asked in self._found:
            return self._found[asked]
        found = await read()
        # A write that overtook the read may have changed what it found. What is not there is not
        # kept, so that made-up keys cannot fill the memory.
        if found is not None and generation == self._database.generation:
            if len(self._found) >= self._capacity:
                self._found.clear()
            self._found[asked] = found
        return found
