"""Which instances are in use now, and since when the others are idle."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId


class InstanceUses:
    """Counts the calls that need an instance in memory, for hibernation."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._counts: Counter[InstanceId] = Counter()
        self._ends: dict[InstanceId, datetime] = {}
        self._began = clock()
        self._left: set[InstanceId] = set()

    @contextmanager
    def using(self, instance_id: InstanceId) -> Iterator[None]:
        """Keeps the instance in memory during the block, if it is there."""
        self._counts[instance_id] += 1
        try:
            yield
        finally:
            self._counts[instance_id] -= 1
            if not self._counts[instance_id]:
                del self._counts[instance_id]
            self._ends[instance_id] = self._clock()

    def begin_leaving(self, instance_id: InstanceId) -> bool:
        """Whether nobody uses it; if so, `has_left` says from now on that it may be gone."""
        if instance_id in self._counts:
            return False
        self._left.add(instance_id)
        return True

    def has_left(self, instance_id: InstanceId) -> bool:
        """Whether it may have left memory since a caller has read its row."""
        return instance_id in self._left

    def end_leaving(self, instance_id: InstanceId) -> None:
        """It is in memory: it was brought back, or has not left after all."""
        self._left.discard(instance_id)

    def is_used(self, instance_id: InstanceId) -> bool:
        """Whether a call needs it now."""
        return instance_id in self._counts

    def idle_s(self, instance: Instance) -> float:
        """For how long nobody has used an instance, and it has not changed."""
        if self.is_used(instance.id):
            return 0.0
        since = max(self._ends.get(instance.id, self._began), instance.updated_at)
        return (self._clock() - since).total_seconds()

    def forget(self, instance_id: InstanceId) -> None:
        """Drops what is known of an instance that is deleted."""
        self._ends.pop(instance_id, None)
        self._left.discard(instance_id)
