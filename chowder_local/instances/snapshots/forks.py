"""Forking instances and snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION, SnapshotId
from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, OrganizationId, Snapshot
    from chowder_local.core.events import Events
    from chowder_local.instances.lifecycle.creation import InstanceCreation
    from chowder_local.instances.lifecycle.service import Lifecycle
    from chowder_local.instances.snapshots.service import Snapshots


@dataclass(eq=False, repr=False)
class Forks:
    """Creates instances from snapshots; their sandboxes are allocated as for new ones."""

    snapshots: Snapshots
    creation: InstanceCreation
    lifecycle: Lifecycle
    events: Events

    async def fork(self, instance: Instance, name: str) -> Instance:
        """A new instance, `provisioning`, with a copy of this one's present state.

        Its row is written and its warm sandbox resumed while the state is copied, to save time.
        Raises InstanceLimitReached if the tier allows no more, and as `Snapshots.take`.
        """
        forks: list[Instance] = []

        async def make(snapshot: Snapshot) -> None:
            forks.append(await self.make(snapshot, name))

        try:
            async with self.snapshots.capture(instance, meanwhile=make):
                return forks[0]
        except BaseException:
            # No client gets its id, whether the copy fails or the request or the server ends.
            for each in forks:
                await self.lifecycle.withdraw(each)
            raise

    async def fork_snapshot(
        self, organization_id: OrganizationId, snapshot_id: str, name: str
    ) -> Instance:
        """A new instance, `provisioning`, of the snapshot's `openclaw_version`.

        Raises SnapshotNotFound, VersionUnavailable, InstanceLimitReached.
        """
        with self.snapshots.using(SnapshotId(snapshot_id)):
            snapshot = await self.snapshots.get(organization_id, snapshot_id)
            return await self.make(snapshot, name)

    async def make(self, snapshot: Snapshot, name: str) -> Instance:
        """As `fork_snapshot`, from a snapshot that is in use."""
        fork = await self.creation.add(
            snapshot.organization_id,
            name=name,
            model_provider=snapshot.model_provider,
            openclaw_config=snapshot.content.get("overrides"),
            egress=snapshot.egress,
            openclaw_version=snapshot.openclaw_version or DEFAULT_VERSION,
            origin_snapshot_id=snapshot.id,
        )
        self.events.publish(
            EventType.INSTANCE_FORKED,
            fork.organization_id,
            fork.id,
            of_instance_id=snapshot.instance_id,
            snapshot_id=snapshot.id,
        )
        return fork
