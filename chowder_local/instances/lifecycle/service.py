"""Stopping, starting and deleting instances."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.sandboxes import EngineSilent

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.in_memory import InMemory
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.transitions import Transitions

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class Lifecycle:
    """Stops, starts and deletes instances; one operation at a time for each instance."""

    directory: InstanceDirectory
    transitions: Transitions
    locks: KeyedLocks
    sandbox_control: SandboxControl
    in_memory: InMemory
    provisioner: Provisioner
    on_delete: Callable[[InstanceId], None]

    async def stop(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Drains and freezes a running instance."""
        stale = await self.directory.get_for_request(organization_id, instance_id)
        async with self.locks.holding(stale.id):
            instance = await self.directory.current(stale, InstanceStatus.RUNNING)
            if instance.is_in_memory:
                await self.sandbox_control.freeze(instance)
            stopped = await self.transitions.to_stopped(instance)
        return stopped or await self.directory.raise_status_changed(instance)

    async def start(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Resumes a stopped instance; it accepts turns when this returns."""
        stale = await self.directory.get_for_request(organization_id, instance_id)
        async with self.locks.holding(stale.id):
            instance = await self.directory.current(stale, InstanceStatus.STOPPED)
            started = await self.transitions.to_running(await self.in_memory.wake(instance))
        return started or await self.directory.raise_status_changed(instance)

    async def delete(self, organization_id: OrganizationId, instance_id: str) -> None:
        """Destroys the sandbox with its data; the row stays as `terminated`.

        If the engine does not answer, the agent can neither be reached nor reach a model, and the
        reconciler destroys it as soon as the engine is back.
        """
        stale = await self.directory.get_for_request(organization_id, instance_id)
        async with self.locks.holding(stale.id):
            await self.provisioner.abandon(stale.id)
            # The row first: if the server dies before the sandbox is gone, the reconciler goes on.
            instance = await self.transitions.to_terminated(stale) or stale
            self.on_delete(instance.id)
            try:
                await self.sandbox_control.remove(instance.sandbox_id)
            except EngineSilent as silent:
                # Another request would do no more than the reconciler does by itself.
                log.warning(
                    "instance %s: deleted, but its sandbox not yet: %s", instance.id, silent
                )
            else:
                log.info("instance %s: deleted with sandbox %s", instance.id, instance.sandbox_id)

    async def withdraw(self, instance: Instance) -> None:
        """Deletes an instance whose id no client has received."""
        async with self.locks.holding(instance.id):
            await self.provisioner.abandon(instance.id)
            await self.transitions.to_terminated(instance)
            await self.sandbox_control.discard(instance.sandbox_id)
