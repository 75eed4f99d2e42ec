"""Locks by key: work on one key is done one at a time, without delaying work on other keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable


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
