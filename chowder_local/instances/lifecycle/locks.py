"""One lock an instance, so that its changes of state happen one after the other."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import InstanceId


class InstanceLocks:
    """Locks that exist while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[InstanceId, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def holding(self, instance_id: InstanceId) -> AsyncIterator[None]:
        """The only one inside this block for that instance."""
        lock = self._locks.get(instance_id)
        if lock is None:
            lock = self._locks[instance_id] = asyncio.Lock()
        async with lock:
            yield

    def is_held(self, instance_id: InstanceId) -> bool:
        """Whether somebody changes the instance's state right now."""
        lock = self._locks.get(instance_id)
        return lock is not None and lock.locked()
