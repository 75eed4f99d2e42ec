"""One lock a sandbox, so that changes of an agent's configuration happen one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId


class ConfigLocks:
    """Locks that exist while a gateway that has one is in use."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[SandboxId, asyncio.Lock] = WeakValueDictionary()

    def lock_of(self, sandbox_id: SandboxId) -> asyncio.Lock:
        """A sandbox's lock, the same for all who have it at the same time."""
        return self._locks.setdefault(sandbox_id, asyncio.Lock())
