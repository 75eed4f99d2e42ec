"""Moving instances to newer OpenClaw releases."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import UPGRADE_SNAPSHOT_PREFIX, InstanceStatus
from chowder_local.core.errors.agents import InstanceInUse
from chowder_local.core.errors.requests import InstanceStateWrong

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, Snapshot
    from chowder_local.core.tasks import KeyedLocks
    from chowder_local.instances.lifecycle.instance_uses import InstanceUses
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.sandbox_control import SandboxControl
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.snapshots.upgrade_checks import UpgradeChecks
    from chowder_local.instances.transitions import Transitions

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class Upgrades:
    """Boots an instance's volume with another release, after a snapshot of it.

    OpenClaw changes its databases when a newer release opens them, and an older one refuses them
    then. So the way back is the snapshot, which has the former `openclaw_version`.
    """

    checks: UpgradeChecks
    transitions: Transitions
    locks: KeyedLocks
    snapshots: Snapshots
    provisioner: Provisioner
    sandbox_control: SandboxControl
    uses: InstanceUses

    async def upgrade(self, stale: Instance, version: str) -> tuple[Instance, Snapshot]:
        """The instance, `provisioning` with another release, and the snapshot to go back to.

        What it does after the snapshot is on the volume, and so is not lost by the upgrade. Raises
        as `UpgradeChecks.ensure_possible`; InstanceInUse if it is answering a message; and as
        `Snapshots.take`.
        """
        instance = await self.checks.ensure_possible(stale, version)
        if self.uses.is_used(instance.id):
            raise InstanceInUse
        name = f"{UPGRADE_SNAPSHOT_PREFIX}{self.checks.versions.release(version)}"
        snapshot = await self.snapshots.take(instance, name)
        async with self.locks.holding(instance.id):
            instance = await self.checks.ensure_possible(instance, version)
            if instance.is_in_memory:
                await self.sandbox_control.drain(instance)
            upgraded = await self.transitions.to_provisioning(instance, openclaw_version=version)
            if upgraded is None:
                raise InstanceStateWrong(InstanceStatus.PROVISIONING, instance.status)
            self.sandbox_control.forget(instance.sandbox_id)
            self.provisioner.begin(upgraded)
        log.info(
            "instance %s: goes from OpenClaw %s to %s",
            instance.id,
            instance.openclaw_version,
            version,
        )
        return upgraded, snapshot
