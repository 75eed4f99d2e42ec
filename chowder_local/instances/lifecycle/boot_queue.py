"""The queue of boots: a few run at once, first in, first out."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.events import Events
    from chowder_local.core.metrics import Metrics


class BootQueue:
    """Bounds how many sandboxes boot at once, and publishes the outcome of each boot."""

    def __init__(self, concurrency: int, events: Events, metrics: Metrics) -> None:
        # A boot is bound by the processor: more at once would only delay all of them.
        self._slots = asyncio.Semaphore(concurrency)
        self._events = events
        self._metrics = metrics
        self._waiting: dict[InstanceId, None] = {}

    @property
    def length(self) -> int:
        """The number of instances that wait for their boot to begin."""
        return len(self._waiting)

    def position(self, instance_id: InstanceId) -> int | None:
        """The instance's position in the queue, from 1; None if it does not wait."""
        return next((n for n, each in enumerate(self._waiting, 1) if each == instance_id), None)

    @asynccontextmanager
    async def turn(self, instance: Instance) -> AsyncIterator[None]:
        """Waits for a free slot and holds it during the block, which is the boot."""
        publish = partial(
            self._events.publish, organization_id=instance.organization_id, instance_id=instance.id
        )
        publish(EventType.BOOT_QUEUED)
        self._waiting[instance.id] = None
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            publish(EventType.BOOT_ENDED, outcome="abandoned", took_s=0.0)
            raise
        finally:
            self._waiting.pop(instance.id, None)
        publish(EventType.BOOT_BEGUN)
        began_s, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "ready"
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            self._slots.release()
            took_s = time.monotonic() - began_s
            self._metrics.boot(outcome, took_s)
            publish(EventType.BOOT_ENDED, outcome=outcome, took_s=round(took_s, 3))
