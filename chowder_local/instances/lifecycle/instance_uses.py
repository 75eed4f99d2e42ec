"""Which instances are in use now, and since when the others are idle."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId


ENDS_KEPT = 10_000


@dataclass(eq=False, repr=False)
class InstanceUses:
    """Counts the calls that need an instance in memory, for hibernation."""

    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._counts: Counter[InstanceId] = Counter()
        # Of the latest only: a request that is late may still use an instance that is deleted.
        self._ends: LRUCache[InstanceId, datetime] = LRUCache(ENDS_KEPT)
        self._began = self.clock()
        self._addresses: dict[InstanceId, str | None] = {}
        """Of the instances that have left memory, or were about to; None until they are back."""

    @contextmanager
    def using(self, instance_id: InstanceId) -> Iterator[None]:
        """Keeps the instance in memory during the block, if it is there."""
        self._counts[instance_id] += 1
        try:
            yield
        finally:
            # It may have been deleted meanwhile.
            if instance_id in self._counts:
                self._counts[instance_id] -= 1
                if not self._counts[instance_id]:
                    del self._counts[instance_id]
                self._ends[instance_id] = self.clock()

    def begin_leaving(self, instance_id: InstanceId) -> bool:
        """Whether nobody uses it; if so, every row of it that was read before is stale."""
        if instance_id in self._counts:
            return False
        self._addresses[instance_id] = None
        return True

    def is_stale(self, instance: Instance) -> bool:
        """Whether it may have left memory, or come back elsewhere, since its row was read."""
        address = self._addresses.get(instance.id, instance.gateway_url)
        return address is None or address != instance.gateway_url

    def end_leaving(self, instance: Instance) -> None:
        """It is in memory as this row says: it came back, or has not left after all."""
        self._addresses[instance.id] = instance.gateway_url

    def is_used(self, instance_id: InstanceId) -> bool:
        """Whether a call needs it now."""
        return instance_id in self._counts

    def idle_s(self, instance: Instance) -> float:
        """For how long nobody has used an instance, and it has not changed."""
        if self.is_used(instance.id):
            return 0.0
        since = max(self._ends.get(instance.id, self._began), instance.updated_at)
        return (self.clock() - since).total_seconds()

    def forget(self, instance_id: InstanceId) -> None:
        """Drops what is known of an instance that is deleted."""
        self._counts.pop(instance_id, None)
        self._ends.pop(instance_id, None)
        self._addresses.pop(instance_id, None)
