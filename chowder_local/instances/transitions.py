"""The transitions between the statuses of an instance."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from chowder_local.core.domain import InstanceStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Set
    from datetime import datetime

    from chowder_local.core.domain import Instance, SandboxId, WarmSandbox
    from chowder_local.store.instances import InstanceChanges, InstanceQueries

log = logging.getLogger(__name__)

PROVISIONING, RUNNING, STOPPED, ERROR, TERMINATED = InstanceStatus

MOVES: Mapping[InstanceStatus, Set[InstanceStatus]] = {
    # To itself when the sandbox is replaced during a boot.
    PROVISIONING: {PROVISIONING, RUNNING, ERROR, TERMINATED},
    RUNNING: {PROVISIONING, STOPPED, ERROR, TERMINATED},
    STOPPED: {PROVISIONING, RUNNING, ERROR, TERMINATED},
    # By a restore from a snapshot.
    ERROR: {PROVISIONING, TERMINATED},
    TERMINATED: set(),
}
"""The statuses that each status can change to; drawn in `docs/explanation/instance-states.md`."""


@dataclass(eq=False, repr=False)
class Transitions:
    """Moves instances between statuses.

    Each move compares and sets the status that the caller has seen: of calls that race from one
    status, one gets the instance and the others get None. The store publishes the event.
    """

    instances: InstanceQueries
    clock: Callable[[], datetime]

    async def to_running(self, instance: Instance) -> Instance | None:
        """The gateway accepts turns at the instance's `gateway_url`, which may be a new one."""
        first_ready_at = instance.first_ready_at or self.clock()
        changes: InstanceChanges = {
            "gateway_url": instance.gateway_url,
            "first_ready_at": first_ready_at,
            "error_message": None,
        }
        return await self._move(instance, RUNNING, changes)

    async def to_stopped(self, instance: Instance) -> Instance | None:
        """The sandbox is frozen, or only its volume is left."""
        return await self._move(instance, STOPPED, {})

    async def to_provisioning(
        self, instance: Instance, **fields: Unpack[InstanceChanges]
    ) -> Instance | None:
        """The sandbox is about to be created again on its volume."""
        return await self._move(instance, PROVISIONING, {**fields, "gateway_url": None})

    async def to_error(
        self, instance: Instance, reason: str, **fields: Unpack[InstanceChanges]
    ) -> Instance | None:
        """The instance has failed. It is not booted again automatically; its files are kept."""
        return await self._move(instance, ERROR, {**fields, "error_message": reason})

    async def to_terminated(self, instance: Instance) -> Instance | None:
        """Deletes the instance from any status. None if there is no such instance."""
        changed = await self.update(instance, status=TERMINATED, gateway_url=None)
        if changed is not None:
            log.info("instance %s: %s", instance.id, TERMINATED)
        return changed

    async def replace_sandbox(
        self,
        former: Instance,
        sandbox_id: SandboxId,
        fingerprint: str | None,
        booting: Collection[SandboxId],
        **fields: Unpack[InstanceChanges],
    ) -> tuple[Instance, WarmSandbox | None] | None:
        """Back to `provisioning`, with a warm sandbox if one fits, or else with `sandbox_id`."""
        _check(former, PROVISIONING)
        replaced = await self.instances.replace_sandbox(
            former,
            sandbox_id,
            fingerprint=fingerprint,
            booting=booting,
            now=self.clock(),
            **fields,
        )
        if replaced is not None:
            log.info("instance %s: %s", former.id, PROVISIONING)
        return replaced

    async def move_sandbox(self, instance: Instance, sandbox_id: SandboxId) -> Instance | None:
        """Its home is in another sandbox now, and nothing owns the former one. Keeps its status."""
        return await self.instances.change(
            instance.id, only_from={instance.status}, now=self.clock(), sandbox_id=sandbox_id
        )

    async def hibernate(self, instance: Instance) -> Instance | None:
        """It goes on running, but its sandbox is about to leave memory."""
        return await self.instances.change(
            instance.id, only_from={RUNNING}, now=self.clock(), gateway_url=None
        )

    async def wake(self, instance: Instance) -> Instance | None:
        """As `to_running`, for one that has been `running` all the time."""
        return await self.instances.change(
            instance.id, only_from={RUNNING}, now=self.clock(), gateway_url=instance.gateway_url
        )

    async def postpone(self, instance: Instance, reason: str) -> Instance | None:
        """Keeps it `provisioning`, with the reason as its error; the reconciler tries again."""
        return await self.instances.change(
            instance.id, only_from={PROVISIONING}, now=self.clock(), error_message=reason
        )

    async def update(
        self, instance: Instance, **fields: Unpack[InstanceChanges]
    ) -> Instance | None:
        """Changes fields of an instance. None if there is no such instance."""
        return await self.instances.change(instance.id, now=self.clock(), **fields)

    async def _move(
        self, instance: Instance, target: InstanceStatus, fields: InstanceChanges
    ) -> Instance | None:
        _check(instance, target)
        changes: InstanceChanges = {**fields, "status": target}
        changed = await self.instances.change(
            instance.id, only_from={instance.status}, now=self.clock(), **changes
        )
        if changed is not None:
            log.info("instance %s: %s", instance.id, target)
        return changed


def _check(instance: Instance, target: InstanceStatus) -> None:
    if target not in MOVES[instance.status]:
        raise ValueError(f"An instance cannot move from {instance.status} to {target}.")
