"""Changing whether an instance has network egress."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceStateWrong

if TYPE_CHECKING:
    from chowder_local.core.domain import Egress, Instance
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.transitions import Transitions

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class EgressChanges:
    """Turns egress on or off by creating the sandbox again on its volume."""

    rule: EgressRule
    directory: InstanceDirectory
    transitions: Transitions
    locks: KeyedLocks
    provisioner: Provisioner
    sandbox_control: SandboxControl

    async def change(self, stale: Instance, egress: Egress | None) -> Instance:
        """The instance with its new setting; None means the server's default.

        If the effective egress of a running instance changes, the running turn ends first and the
        instance goes back to `provisioning`. One that is not in memory gets its new sandbox when
        it is brought back. Raises InstanceStateWrong if it has failed or is deleted, and
        EgressUnavailable.
        """
        wanted = egress or self.rule.default
        self.rule.check(wanted)
        async with self.locks.holding(stale.id):
            instance = await self._alive(stale)
            has_no_sandbox = instance.status is InstanceStatus.STOPPED or instance.is_hibernated
            if wanted is self.rule.effective(instance) or has_no_sandbox:
                return await self.transitions.update(instance, egress=egress) or instance
            if instance.is_in_memory:
                await self.sandbox_control.drain(instance)
            else:
                await self.provisioner.abandon(instance.id)
                # The boot may have ended just before.
                instance = await self._alive(stale)
            changed = await self.transitions.to_provisioning(instance, egress=egress)
            if changed is None:
                await self.directory.raise_status_changed(instance)
            self.sandbox_control.forget(instance.sandbox_id)
            self.provisioner.begin(changed)
            log.info("instance %s: egress changed to %s", instance.id, wanted)
            return changed

    async def _alive(self, stale: Instance) -> Instance:
        instance = await self.directory.current(stale)
        if instance.status in {InstanceStatus.ERROR, InstanceStatus.TERMINATED}:
            raise InstanceStateWrong(instance.status, "running or stopped")
        return instance
