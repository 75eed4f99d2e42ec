"""Hibernating running instances: they leave memory, and their next use brings them back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import TTLCache

from chowder_local.core import logs
from chowder_local.core.domain import SandboxState
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.tasks import contained, every
from chowder_local.openclaw.shortcuts import HIBERNATION
from chowder_local.openclaw.standing_work import find_standing_work, has_foreign_process

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.instance_uses import InstanceUses
    from chowder_local.instances.transitions import Transitions
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.shortcuts import Allows
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

BUSY_KEPT = 4096
BUSY_KEPT_S = 60.0
"""For how long an agent that has work of its own is not asked again."""


@dataclass(eq=False, repr=False, kw_only=True)
class Hibernation:
    """Releases the sandboxes of running instances that nobody uses. Their status stays."""

    instances: InstanceQueries
    transitions: Transitions
    engine: Engine
    locks: KeyedLocks
    uses: InstanceUses
    gateway_of: GatewayOf
    allows: Allows
    after_s: float
    interval_s: float

    def __post_init__(self) -> None:
        self._busy: TTLCache[InstanceId, str] = TTLCache(BUSY_KEPT, BUSY_KEPT_S)

    async def run(self) -> None:
        """Hibernates what was idle for long enough, at intervals, until cancelled."""
        await every(self.interval_s, "hibernating", self.hibernate_idle)

    async def hibernate_idle(self) -> None:
        """Hibernates each instance that was idle for long enough."""
        for instance in await self.instances.running_or_provisioning():
            if self.idle_s(instance) >= self.after_s:
                with (
                    logs.for_instance(instance.id),
                    contained(f"instance {instance.id}: hibernating"),
                ):
                    await self.hibernate(instance)

    def idle_s(self, instance: Instance) -> float:
        """For how long nobody has used an instance; 0 if it may not hibernate now."""
        if not (instance.is_in_memory and instance.may_hibernate) or instance.id in self._busy:
            return 0.0
        return self.uses.idle_s(instance)

    async def hibernate(self, stale: Instance) -> bool:
        """Frees a running instance's memory; False if it is in use or has work of its own.

        Raises EngineUnavailable.
        """
        # The lock's holder may itself wait for memory.
        if self.locks.is_held(stale.id) or not self.idle_s(stale):
            return False
        async with self.locks.holding(stale.id):
            instance = await self.instances.get(stale.id)
            if instance is None or not self.idle_s(instance):
                return False
            sandbox = await self.engine.inspect(instance.sandbox_id)
            if sandbox.state is not SandboxState.RUNNING:
                # Perhaps it has died, which is not for this to repair.
                return False
            try:
                reason = await self._find_work(instance)
                # From here on, each use waits for the lock and looks at the row again.
                is_leaving = reason is None and self.uses.begin_leaving(instance.id)
                has_left = is_leaving and await self._leave(instance)
            except (GatewayUnavailable, RpcRefused) as problem:
                reason, has_left = str(problem), False
            if not has_left:
                self.uses.end_leaving(instance)
                self._busy[instance.id] = reason or "in use"
                log.debug("instance %s: does not hibernate: %s", instance.id, reason)
        return has_left

    async def _find_work(self, instance: Instance) -> str | None:
        if not await self.allows(HIBERNATION, instance.openclaw_version):
            return "its own work cannot be told from that of this OpenClaw"
        work = await find_standing_work(self._gateway(instance))
        if work is None:
            commands = await self.engine.processes(instance.sandbox_id)
            work = "it runs other programs" if has_foreign_process(commands) else None
        return work

    async def _leave(self, instance: Instance) -> bool:
        # Without a drain, a turn or tool in progress refuses it.
        suspension = await self._gateway(instance).suspend(instance.sandbox_id, drains=False)
        if not suspension.is_drained:
            return False
        # The row first: if the server dies before the release, the reconciler makes it.
        if await self.transitions.hibernate(instance) is None:
            return False
        await self.engine.release(instance.sandbox_id)
        log.info("instance %s: hibernated", instance.id)
        return True

    def _gateway(self, instance: Instance) -> Gateway:
        return self.gateway_of(instance.sandbox_id, instance.gateway_url)
