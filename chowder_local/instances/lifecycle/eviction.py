"""Evicting stopped instances from memory; their state stays on their volumes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Events
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Eviction:
    """Shuts down the sandboxes of stopped instances cleanly; a start boots them again."""

    instances: InstanceQueries
    engine: Engine
    locks: KeyedLocks
    events: Events

    async def release(self, stale: Instance) -> bool:
        """Frees a stopped instance's memory; False if it is in use, not stopped or not in memory.

        Raises EngineUnavailable.
        """
        # The lock's holder is about to move the instance, and may itself wait for an eviction.
        if self.locks.is_held(stale.id):
            return False
        async with self.locks.holding(stale.id):
            instance = await self.instances.get(stale.id)
            if instance is None or instance.status is not InstanceStatus.STOPPED:
                return False
            sandbox = await self.engine.inspect(instance.sandbox_id)
            if sandbox.state is not SandboxState.PAUSED:
                return False
            await self.engine.release(instance.sandbox_id)
            self.events.publish(
                EventType.SANDBOX_RELEASED,
                instance.organization_id,
                instance.id,
                sandbox_id=instance.sandbox_id,
            )
            log.info("instance %s: evicted from memory", instance.id)
            return True
