"""Memory and processor time of running agents over the last minutes, read while somebody looks."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import InstanceId, SandboxUsage
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
KEPT = 60
"""Readings of each agent: two minutes."""


@dataclass
class Gauge:
    """An agent's readings, oldest first."""

    memory_limit_bytes: int = 0
    memory_bytes: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    cpu: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Of one processor, so 1.5 is one and a half of them."""
    _last: SandboxUsage | None = None

    def read(self, usage: SandboxUsage) -> None:
        """Adds a reading; how much a processor did is known from the second on."""
        last, self._last = self._last, usage
        self.memory_limit_bytes = usage.memory_limit_bytes
        self.memory_bytes.append(usage.memory_bytes)
        if last is not None and usage.at_s > last.at_s:
            # A sandbox that was made anew begins to count from nothing.
            self.cpu.append(max(0.0, usage.cpu_s - last.cpu_s) / (usage.at_s - last.at_s))


class UsageSamples:
    """One reader for all who look; while nobody does, the engine is not asked."""

    def __init__(
        self, engine: Engine, instances: InstanceQueries, interval_s: float = INTERVAL_S
    ) -> None:
        self._engine = engine
        self._instances = instances
        self._interval_s = interval_s
        self._known: dict[InstanceId, Gauge] = {}
        self._viewers: set[asyncio.Event] = set()
        self._looked_at = asyncio.Event()

    def get(self, instance_id: InstanceId) -> Gauge | None:
        """An agent's readings; None if it does not run, or nobody has looked."""
        return self._known.get(instance_id)

    def known(self) -> list[InstanceId]:
        """The agents that were read last."""
        return list(self._known)

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks."""
        return self._looked_at.is_set()

    @contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """Has agents read during the block; the event is set after each reading."""
        news = asyncio.Event()
        self._viewers.add(news)
        self._looked_at.set()
        try:
            yield news
        finally:
            self._viewers.discard(news)
            if not self._viewers:
                self._looked_at.clear()

    async def run(self) -> None:
        """Reads for as long as the server lives."""
        while True:
            if not self._looked_at.is_set():
                # What was read before says nothing of the time in between.
                self._known.clear()
                await self._looked_at.wait()
            try:
                await self.read()
            except ChowderError as problem:
                log.debug("what agents take is not known: %s", problem)
            except Exception:
                # The loop outlives a defect in one round: the next may meet another state.
                log.exception("reading what agents take failed unexpectedly")
            for news in self._viewers:
                news.set()
            await asyncio.sleep(self._interval_s)

    async def read(self) -> None:
        """Reads every running agent once; of others, which are frozen or gone, nothing is kept."""
        running = await self._instances.running()
        usages = await self._engine.usage(list(running.values()))
        self._known = {
            instance_id: self._known.get(instance_id, Gauge())
            for instance_id, sandbox_id in running.items()
            if sandbox_id in usages
        }
        for instance_id, gauge in self._known.items():
            gauge.read(usages[running[instance_id]])
