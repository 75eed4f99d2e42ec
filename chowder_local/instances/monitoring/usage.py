"""What running agents use of memory, processor and disk, and the disk quota."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.errors import ChowderError
from chowder_local.core.events import ChangeSignal
from chowder_local.core.tasks import logging_errors, run_every

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import Instance, InstanceId, SandboxUsage
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
DISK_INTERVAL_S = 60.0
KEPT = 60
"""Samples of each agent: two minutes."""
MB = 1024 * 1024


@dataclass
class Gauge:
    """An agent's samples, oldest first."""

    memory_limit_bytes: int = 0
    memory_bytes: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    cpu: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """In processors, so 1.5 is one and a half."""
    _last: SandboxUsage | None = None

    def read(self, usage: SandboxUsage) -> None:
        """Adds a sample; processor use is known from the second sample on."""
        last, self._last = self._last, usage
        self.memory_limit_bytes = usage.memory_limit_bytes
        self.memory_bytes.append(usage.memory_bytes)
        if last is not None and usage.at_s > last.at_s:
            # The counter of a sandbox that was created again starts at zero.
            self.cpu.append(max(0.0, usage.cpu_s - last.cpu_s) / (usage.at_s - last.at_s))


@dataclass(eq=False, repr=False)
class UsageSamples:
    """Samples once for all viewers; without viewers, the engine is not asked."""

    engine: Engine
    instances: InstanceQueries
    interval_s: float = INTERVAL_S

    def __post_init__(self) -> None:
        self._gauges: dict[InstanceId, Gauge] = {}
        self._rounds = ChangeSignal()
        self._has_viewers = asyncio.Event()

    def get(self, instance_id: InstanceId) -> Gauge | None:
        """An agent's samples; None if it does not run, or there are no viewers."""
        return self._gauges.get(instance_id)

    def instance_ids(self) -> list[InstanceId]:
        """The agents that have samples."""
        return list(self._gauges)

    @property
    def is_watched(self) -> bool:
        """Whether there are viewers."""
        return self._has_viewers.is_set()

    @contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """Samples agents during the block; the event is set after each round."""
        try:
            with self._rounds.watching() as news:
                self._has_viewers.set()
                yield news
        finally:
            if not self._rounds.has_viewers:
                self._has_viewers.clear()

    async def run(self) -> None:
        """Samples at intervals while there are viewers, until cancelled."""
        while True:
            if not self._has_viewers.is_set():
                # A series must not have a gap.
                self._gauges.clear()
                await self._has_viewers.wait()
            try:
                await self.read()
            except ChowderError as problem:
                log.debug("usage of agents not sampled: %s", problem)
            except Exception:
                # The loop survives a defect in one round: the next may succeed.
                log.exception("sampling the usage of agents failed unexpectedly")
            self._rounds.notify()
            await asyncio.sleep(self.interval_s)

    async def read(self) -> None:
        """Samples every running agent once; drops the samples of all others."""
        running = await self.instances.running()
        usages = await self.engine.usage(list(running.values()))
        self._gauges = {
            instance_id: self._gauges.get(instance_id, Gauge())
            for instance_id, sandbox_id in running.items()
            if sandbox_id in usages
        }
        for instance_id, gauge in self._gauges.items():
            gauge.read(usages[running[instance_id]])


@dataclass(eq=False, repr=False)
class DiskWatch:
    """Checks running instances, one at a time; stopped ones cannot grow."""

    agents: Agents
    limit_mb: int

    async def run(self) -> None:
        """Checks at intervals, until cancelled."""
        await run_every(DISK_INTERVAL_S, "checking disk use", self.check)

    async def check(self) -> None:
        """Checks every running instance once, and ends those over the limit."""
        for listed in await self.agents.instances.running_or_provisioning():
            with (
                logs.for_instance(listed.id),
                logging_errors(f"instance {listed.id}: checking its disk use"),
            ):
                # Measuring the others took a while, in which this instance may have moved to
                # another sandbox.
                instance = await self.agents.instances.get(listed.id)
                if instance is None or not instance.is_in_memory:
                    continue
                used = await self.agents.engine.disk_bytes(instance.sandbox_id, self.limit_mb * MB)
                if used > self.limit_mb * MB:
                    await self._end(instance)

    async def _end(self, measured: Instance) -> None:
        async with self.agents.holding(measured) as agent:
            if agent.row.sandbox_id != measured.sandbox_id or agent.row.status != measured.status:
                return
            # The row first: the reconciler boots ended sandboxes of `running` instances again.
            is_ended = await agent.to_error(
                f"The agent's files take more than the {self.limit_mb} MB of disk that it "
                "may use (CHOWDER_DISK_LIMIT_MB), so it was ended. They are kept on the "
                f"volume {agent.row.sandbox_id} until it is deleted.",
                gateway_url=None,
            )
            if is_ended:
                log.warning("instance %s: ended, because it exceeds its disk quota", measured.id)
                await agent.release()
