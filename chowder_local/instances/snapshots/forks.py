"""Making new instances of other ones, and of snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import SnapshotId
from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, OrganizationId, Snapshot
    from chowder_local.core.events import Events
    from chowder_local.instances.lifecycle.creation import InstanceCreation
    from chowder_local.instances.lifecycle.service import Lifecycle
    from chowder_local.instances.snapshots.service import Snapshots


class Forks:
    """Makes instances of snapshots; their sandboxes are allocated as for `create`."""

    def __init__(
        self,
        snapshots: Snapshots,
        creation: InstanceCreation,
        lifecycle: Lifecycle,
        events: Events,
    ) -> None:
        self._snapshots = snapshots
        self._creation = creation
        self._lifecycle = lifecycle
        self._events = events

    async def fork(self, instance: Instance, name: str) -> Instance:
        """A new instance, `provisioning`, that is as this one is now; both go on by themselves.

        It is there, and a warm sandbox woken for it, before the copy is: both take their time.
        Raises InstanceStateWrong, InstanceLimitReached, EngineUnavailable, ArchiveRefused.
        """
        made: list[Instance] = []

        async def make(snapshot: Snapshot) -> None:
            made.append(await self.make(snapshot, name))

        try:
            async with self._snapshots.capture(instance, meanwhile=make):
                return made[0]
        except BaseException:
            # Nobody is told of it, neither if it fails nor if the request or the server ends.
            for each in made:
                await self._lifecycle.withdraw(each)
            raise

    async def fork_snapshot(
        self, organization_id: OrganizationId, snapshot_id: str, name: str
    ) -> Instance:
        """The same of a snapshot. Raises SnapshotNotFound, InstanceLimitReached."""
        with self._snapshots.using(SnapshotId(snapshot_id)):
            snapshot = await self._snapshots.snapshot(organization_id, snapshot_id)
            return await self.make(snapshot, name)

    async def make(self, snapshot: Snapshot, name: str) -> Instance:
        """A new instance of a snapshot that is in use. Raises InstanceLimitReached."""
        made = await self._creation.add(
            snapshot.organization_id,
            name=name,
            model_provider=snapshot.model_provider,
            openclaw_config=snapshot.content.get("overrides"),
            egress=snapshot.egress,
            origin_snapshot_id=snapshot.id,
        )
        self._events.publish(
            EventType.INSTANCE_FORKED,
            made.organization_id,
            made.id,
            of_instance_id=snapshot.instance_id,
            snapshot_id=snapshot.id,
        )
        return made
