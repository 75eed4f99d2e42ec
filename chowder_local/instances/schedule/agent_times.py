"""What time it is, and was, for each agent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cachetools import LRUCache

from chowder_local.core.domain import AgentClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, InstanceId

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MACHINE_CLOCK = AgentClock()
AGENTS_KEPT = 1000
CHANGES_KEPT = 2000


@dataclass(eq=False, repr=False)
class AgentTimes:
    """The times of agents by their clocks, also by those that they had before a change."""

    clock: Callable[[], datetime]
    """The machine's."""

    def __post_init__(self) -> None:
        self._changes: LRUCache[InstanceId, deque[tuple[datetime, AgentClock]]] = LRUCache(
            AGENTS_KEPT
        )

    def now(self, instance: Instance) -> datetime:
        """The agent's time."""
        return (instance.clock or MACHINE_CLOCK).at(self.clock())

    def is_moved(self, instance: Instance) -> bool:
        """Whether the agent's time is not the machine's."""
        return abs(self.now(instance) - self.clock()) > timedelta(seconds=1)

    def machine_time_of(self, instance: Instance, at: datetime, *, is_last: bool) -> datetime:
        """When the agent's clock had a time, by the machine's, as far as its changes are known.

        Of a clock that stood at that time, the first moment or the last one.
        """
        ends_at = self.clock()
        for since, clock in reversed(self._changes.get(instance.id, ())):
            if clock.at(since) <= at:
                if clock.frozen_ms is not None:
                    return ends_at if is_last else since
                return at - timedelta(milliseconds=clock.offset_ms)
            ends_at = since
        return at - (self.now(instance) - self.clock())

    def note_change(self, former: Instance, clock: AgentClock) -> None:
        """The agent has another clock from now on."""
        changes = self._changes.setdefault(former.id, deque(maxlen=CHANGES_KEPT))
        if not changes:
            changes.append((EPOCH, former.clock or MACHINE_CLOCK))
        changes.append((self.clock(), clock))
