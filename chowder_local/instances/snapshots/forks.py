"""Making instances of snapshots: a new one, or the same one as it was."""

from __future__ import annotations

import logging
import secrets
import uuid
from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    SandboxId,
    SnapshotId,
)
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.events import EventType
from chowder_local.instances.snapshots.service import TAKABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import OrganizationId, Snapshot
    from chowder_local.core.events import Events
    from chowder_local.core.keyed_lock import KeyedLocks
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.drain import Drain
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.warm_pool.pool import Pool
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)


class Forks:
    """Takes a spare for what it makes, if one is ready, as `create` does."""

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        instances: InstanceQueries,
        organizations: Organizations,
        engine: Engine,
        provisioner: Provisioner,
        pool: Pool,
        locks: KeyedLocks,
        drain: Drain,
        egress: EgressRule,
        events: Events,
        clock: Callable[[], datetime],
    ) -> None:
        self._snapshots = snapshots
        self._instances = instances
        self._organizations = organizations
        self._engine = engine
        self._provisioner = provisioner
        self._pool = pool
        self._locks = locks
        self._drain = drain
        self._egress = egress
        self._events = events
        self._clock = clock

    async def fork(self, instance: Instance, name: str) -> Instance:
        """A new instance, `provisioning`, that is as this one is now; both go on by themselves.

        It is there, and a spare woken for it, before the copy is: both take their time.
        Raises InstanceStateWrong, InstanceLimitReached, EngineUnavailable, ArchiveRefused.
        """
        made: list[Instance] = []

        async def make(snapshot: Snapshot) -> None:
            made.append(await self.of(snapshot, name))

        try:
            async with self._snapshots.taken(instance, meanwhile=make):
                return made[0]
        except BaseException:
            # Nobody is told of it, neither if it fails nor if the request or the server ends.
            for each in made:
                await self._undo(each)
            raise

    async def fork_snapshot(
        self, organization_id: OrganizationId, snapshot_id: str, name: str
    ) -> Instance:
        """The same of a snapshot. Raises SnapshotNotFound, InstanceLimitReached."""
        with self._snapshots.using(SnapshotId(snapshot_id)):
            snapshot = await self._snapshots.snapshot(organization_id, snapshot_id)
            return await self.of(snapshot, name)

    async def of(self, snapshot: Snapshot, name: str) -> Instance:
        """A new instance of a snapshot that is in use."""
        now = self._clock()
        instance = Instance(
            id=InstanceId(str(uuid.uuid4())),
            organization_id=snapshot.organization_id,
            name=name,
            status=InstanceStatus.PROVISIONING,
            model_provider=snapshot.model_provider,
            sandbox_id=_new_sandbox_id(),
            created_at=now,
            updated_at=now,
            openclaw_config=snapshot.content.get("overrides"),
            egress=snapshot.egress,
            seed_snapshot_id=snapshot.id,
        )
        organization = (await self._organizations.details(snapshot.organization_id)).organization
        likeness = await self._likeness(instance)
        request_context.of_instance(instance.id)
        async with self._pool.offer() as offered:
            instance, spare = await self._instances.add(
                instance, organization.tier.instance_limit, likeness=likeness, offered=offered
            )
        self._events.publish(
            EventType.INSTANCE_FORKED,
            instance.organization_id,
            instance.id,
            of_instance_id=snapshot.instance_id,
            snapshot_id=snapshot.id,
        )
        self._provisioner.begin(instance, spare)
        if spare is not None:
            self._pool.claimed()
        return instance

    async def restore(
        self, organization_id: OrganizationId, seen: Instance, snapshot_id: str
    ) -> Instance:
        """The instance, `provisioning`: what it has become since the snapshot is gone.

        It gets another sandbox, so that nothing that remembers the former one is misled.
        Raises SnapshotNotFound, InstanceStateWrong.
        """
        with self._snapshots.using(SnapshotId(snapshot_id)):
            snapshot = await self._snapshots.snapshot(organization_id, snapshot_id)
            async with self._locks.holding(seen.id):
                former = await self._instances.get(seen.id)
                if former is None:
                    raise InstanceNotFound
                if former.status not in TAKABLE:
                    raise InstanceStateWrong(former.status, "running or stopped")
                if former.status is InstanceStatus.RUNNING:
                    await self._drain.drain(former, former.gateway_url)
                restored = await self._remade(former, snapshot)
                self._events.publish(
                    EventType.INSTANCE_RESTORED,
                    restored.organization_id,
                    restored.id,
                    snapshot_id=snapshot.id,
                )
                await self._end(former)
        return restored

    async def _remade(self, former: Instance, snapshot: Snapshot) -> Instance:
        likeness = await self._likeness(former)
        async with self._pool.offer() as offered:
            remade = await self._instances.remake(
                former,
                _new_sandbox_id(),
                likeness=likeness,
                offered=offered,
                now=self._clock(),
                openclaw_config=snapshot.content.get("overrides"),
                model_provider=snapshot.model_provider,
                seed_snapshot_id=snapshot.id,
            )
        if remade is None:
            current = await self._instances.get(former.id)
            raise InstanceStateWrong("gone" if current is None else current.status, former.status)
        instance, spare = remade
        self._provisioner.begin(instance, spare)
        if spare is not None:
            self._pool.claimed()
        return instance

    async def _undo(self, made: Instance) -> None:
        """Takes back an instance that nobody was told of."""
        async with self._locks.holding(made.id):
            await self._provisioner.abandon(made.id)
            await self._instances.change(
                made.id, now=self._clock(), status=InstanceStatus.TERMINATED, gateway_url=None
            )
            await self._end(made)

    async def _end(self, former: Instance) -> None:
        self._drain.forget(former.sandbox_id)
        try:
            await self._engine.remove(former.sandbox_id)
        except ChowderError as problem:
            # Nobody's any more: the reconciler removes it.
            log.warning("sandbox %s: removal put off: %s", former.sandbox_id, problem)

    async def _likeness(self, instance: Instance) -> str | None:
        """Of which likeness a spare would do for it; None if none would."""
        key = await self._organizations.model_key(instance.organization_id, instance.model_provider)
        is_like_spares = self._egress.of(instance) is self._egress.default
        return self._pool.likeness if key is not None and is_like_spares else None


def _new_sandbox_id() -> SandboxId:
    return SandboxId(f"chowder-{secrets.token_hex(6)}")
