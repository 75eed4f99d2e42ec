"""Ending instances that take more of the disk than they may: engines' volumes have no quota."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.tasks import contained, every

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.transitions import Transitions
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

MB = 1024 * 1024


class DiskWatch:
    """Looks at what runs, one after the other; what is stopped cannot grow."""

    def __init__(
        self,
        *,
        instances: InstanceQueries,
        transitions: Transitions,
        engine: Engine,
        locks: KeyedLocks,
        limit_mb: int,
        interval_s: float,
    ) -> None:
        self._instances = instances
        self._transitions = transitions
        self._engine = engine
        self._locks = locks
        self._limit_mb = limit_mb
        self._interval_s = interval_s

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        await every(self._interval_s, "looking at disks", self.look)

    async def look(self) -> None:
        """One look at everything that runs."""
        for instance in await self._instances.running_or_provisioning():
            if instance.status is not InstanceStatus.RUNNING:
                continue
            # One that cannot be looked at stands in no other's way.
            with (
                request_context.for_instance(instance.id),
                contained(f"instance {instance.id}: looking at its disk"),
            ):
                used = await self._engine.disk_bytes(instance.sandbox_id, self._limit_mb * MB)
                if used > self._limit_mb * MB:
                    await self._end(instance)

    async def _end(self, seen: Instance) -> None:
        async with self._locks.holding(seen.id):
            # The row first: what is `running` and has ended would be booted again.
            ended = await self._transitions.to_error(
                seen,
                f"The agent's files take more than the {self._limit_mb} MB of disk that it "
                "may use (CHOWDER_DISK_LIMIT_MB), so it was ended. They are kept on the "
                f"volume {seen.sandbox_id} until it is deleted.",
                gateway_url=None,
            )
            if ended is not None:
                log.warning("instance %s: ended, because its disk is full", seen.id)
                await self._engine.release(seen.sandbox_id)
