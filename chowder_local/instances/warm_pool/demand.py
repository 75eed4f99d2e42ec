"""How many warm sandboxes instances have wanted at about the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

BURST = timedelta(seconds=30)
"""Warm sandboxes that are wanted within this time are wanted at once: each takes a boot to make."""
KEPT = timedelta(hours=1)
"""For how long a burst is remembered."""
KEPT_MAX = 1000


@dataclass(eq=False, repr=False)
class Demand:
    """Remembers when warm sandboxes were wanted; the warm pool's size follows the largest burst."""

    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._times: deque[datetime] = deque(maxlen=KEPT_MAX)
        self.changed = asyncio.Event()
        """Set when one is wanted."""

    def add(self, count: int = 1) -> None:
        """An instance wants a warm sandbox now, or `count` instances do."""
        self._times.extend([self.clock()] * count)
        self.changed.set()

    def peak(self) -> int:
        """The number of the largest burst that is remembered."""
        oldest = self.clock() - KEPT
        while self._times and self._times[0] < oldest:
            self._times.popleft()
        largest = first = 0
        for count, at in enumerate(self._times, 1):
            while at - self._times[first] > BURST:
                first += 1
            largest = max(largest, count - first)
        return largest
