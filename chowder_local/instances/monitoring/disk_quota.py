"""The disk quota of instances, enforced here because engines' volumes have none."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.tasks import contained, every

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.transitions import Transitions
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

MB = 1024 * 1024


@dataclass(eq=False, repr=False, kw_only=True)
class DiskWatch:
    """Checks running instances, one at a time; stopped ones cannot grow."""

    instances: InstanceQueries
    transitions: Transitions
    engine: Engine
    locks: KeyedLocks
    limit_mb: int
    interval_s: float

    async def run(self) -> None:
        """Checks at intervals, until cancelled."""
        await every(self.interval_s, "checking disk use", self.check)

    async def check(self) -> None:
        """Checks every running instance once, and ends those over the limit."""
        for listed in await self.instances.running_or_provisioning():
            with (
                logs.for_instance(listed.id),
                contained(f"instance {listed.id}: checking its disk use"),
            ):
                # Those before it took a while, in which it may have moved to another sandbox.
                instance = await self.instances.get(listed.id)
                if instance is None or not instance.is_in_memory:
                    continue
                used = await self.engine.disk_bytes(instance.sandbox_id, self.limit_mb * MB)
                if used > self.limit_mb * MB:
                    await self._end(instance)

    async def _end(self, measured: Instance) -> None:
        async with self.locks.holding(measured.id):
            instance = await self.instances.get(measured.id)
            if instance is None or instance.sandbox_id != measured.sandbox_id:
                return
            # The row first: the reconciler boots ended sandboxes of `running` instances again.
            ended = await self.transitions.to_error(
                measured,
                f"The agent's files take more than the {self.limit_mb} MB of disk that it "
                "may use (CHOWDER_DISK_LIMIT_MB), so it was ended. They are kept on the "
                f"volume {instance.sandbox_id} until it is deleted.",
                gateway_url=None,
            )
            if ended is not None:
                log.warning("instance %s: ended, because it exceeds its disk quota", instance.id)
                await self.engine.release(instance.sandbox_id)
