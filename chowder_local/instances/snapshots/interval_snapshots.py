"""Taking a snapshot of each running instance at intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import INTERVAL_SNAPSHOT_NAME, InstanceStatus
from chowder_local.core.tasks import contained, every

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import Instance, Snapshot
    from chowder_local.instances.lifecycle.instance_uses import InstanceUses
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.instances import InstanceQueries

LOOK_INTERVAL_S = 10.0


@dataclass(eq=False, repr=False, kw_only=True)
class IntervalSnapshots:
    """Keeps one snapshot of each running instance that is at most about an interval old."""

    instances: InstanceQueries
    snapshots: Snapshots
    histories: ConversationHistoryQueries
    uses: InstanceUses
    interval_s: float
    clock: Callable[[], datetime]

    async def run(self) -> None:
        """Takes what is due, until cancelled."""
        pause_s = min(LOOK_INTERVAL_S, self.interval_s)
        await every(pause_s, "taking snapshots at intervals", self.take_due)

    async def take_due(self) -> None:
        """Takes each snapshot that is due, and removes the one that it replaces."""
        for instance in await self.instances.running_or_provisioning():
            if instance.status is not InstanceStatus.RUNNING:
                continue
            with (
                logs.for_instance(instance.id),
                contained(f"instance {instance.id}: its snapshot at an interval"),
            ):
                former = [
                    each
                    for each in await self.snapshots.of_instance(instance.id)
                    if each.name == INTERVAL_SNAPSHOT_NAME
                ]
                if self._is_due(instance, former):
                    taken = await self.snapshots.take(instance, INTERVAL_SNAPSHOT_NAME)
                    await self.histories.forget_unsaved(instance.id, taken.frozen_at)
                    for each in former:
                        await self.snapshots.remove(instance.organization_id, each.id)

    def _is_due(self, instance: Instance, former: list[Snapshot]) -> bool:
        if not former:
            return True
        taken_at = former[-1].created_at
        if not instance.is_in_memory and instance.updated_at <= taken_at:
            return False
        age_s = (self.clock() - taken_at).total_seconds()
        # Not in the way of an answer, but one that is always in use has its turn, too.
        is_put_off = self.uses.is_used(instance.id) and age_s < 2 * self.interval_s
        return age_s >= self.interval_s and not is_put_off
