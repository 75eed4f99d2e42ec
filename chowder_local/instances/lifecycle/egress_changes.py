"""Changing whether an instance has network egress."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceStateWrong

if TYPE_CHECKING:
    from chowder_local.core.domain import Egress, Instance
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.transitions import Transitions

log = logging.getLogger(__name__)


class EgressChanges:
    """Gives an instance network egress, or takes it: by a sandbox made anew on its volume."""

    def __init__(
        self,
        *,
        rule: EgressRule,
        directory: InstanceDirectory,
        transitions: Transitions,
        locks: KeyedLocks,
        provisioner: Provisioner,
        sandbox_control: SandboxControl,
    ) -> None:
        self.rule = rule
        self._directory = directory
        self._transitions = transitions
        self._locks = locks
        self._provisioner = provisioner
        self._sandbox_control = sandbox_control

    async def change(self, seen: Instance, egress: Egress | None) -> Instance:
        """The instance with what was chosen for it; None leaves it to the server.

        A running one whose egress changes is `provisioning` then: its turn was let end, and its
        sandbox is made anew. A stopped one's is when it is started, and until then it is frozen.
        Raises InstanceStateWrong, EgressUnavailable.
        """
        wanted = egress or self.rule.default
        self.rule.check(wanted)
        async with self._locks.holding(seen.id):
            instance = await self._alive(seen)
            if wanted is self.rule.effective(instance) or instance.status is InstanceStatus.STOPPED:
                return await self._transitions.update(instance, egress=egress) or instance
            if instance.status is InstanceStatus.RUNNING:
                await self._sandbox_control.end_turns(instance)
            else:
                await self._provisioner.abandon(instance.id)
                # It may have come to its end just before.
                instance = await self._alive(seen)
            changed = await self._transitions.to_provisioning(instance, egress=egress)
            if changed is None:
                raise InstanceStateWrong("another by now", instance.status)
            self._sandbox_control.forget(instance.sandbox_id)
            self._provisioner.begin(changed)
            log.info("instance %s: its egress is %s from now on", instance.id, wanted)
            return changed

    async def _alive(self, seen: Instance) -> Instance:
        instance = await self._directory.current(seen)
        if instance.status in {InstanceStatus.ERROR, InstanceStatus.TERMINATED}:
            raise InstanceStateWrong(instance.status, "running or stopped")
        return instance
