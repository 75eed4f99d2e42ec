"""Locks by key: what is done about one thing happens one after the other, and keeps no other up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable


class KeyedLocks:
    """One lock a key, which exists while somebody has it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def holding(self, key: Hashable) -> asyncio.Lock:
        """The key's lock, the same for all who have it at the same time; enter it to hold it."""
        return self._locks.setdefault(key, asyncio.Lock())

    def is_held(self, key: Hashable) -> bool:
        lock = self._locks.get(key)
        return lock is not None and lock.locked()
