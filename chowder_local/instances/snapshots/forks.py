"""Forking instances and snapshots, and restoring instances from snapshots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.core.domain import DEFAULT_VERSION, SnapshotId
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.events import EventType
from chowder_local.instances.lifecycle.agents import new_sandbox_id
from chowder_local.instances.snapshots.service import COPYABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chowder_local.core.domain import (
        AgentClock,
        Instance,
        InstanceId,
        OrganizationId,
        SandboxId,
        Snapshot,
        WarmSandbox,
    )
    from chowder_local.core.events import Events
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.instances.lifecycle.creation import InstanceCreation
    from chowder_local.instances.lifecycle.service import Lifecycle
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.warm_pool.recycling import Recycling
    from chowder_local.store.conversation_histories import ConversationHistoryQueries


@dataclass(eq=False, repr=False)
class Forks:
    """Creates instances from snapshots; their sandboxes are allocated as for new ones."""

    snapshots: Snapshots
    creation: InstanceCreation
    lifecycle: Lifecycle
    events: Events
    keep_jobs: Callable[[InstanceId], None]
    """Lets the scheduled jobs of a new instance run."""

    async def fork(self, instance: Instance, name: str, *, keeps_jobs: bool = False) -> Instance:
        """A new instance, `provisioning`, with a copy of this one's present state.

        Its scheduled jobs are off, unless it `keeps_jobs`.

        Its row is written and its warm sandbox resumed while the state is copied, to save time.
        Raises InstanceLimitReached if the tier allows no more, and as `Snapshots.take`.
        """
        forks: list[Instance] = []

        async def make(snapshot: Snapshot) -> None:
            forks.append(await self.make(snapshot, name, keeps_jobs=keeps_jobs))

        try:
            async with self.snapshots.capture(instance, meanwhile=make):
                return forks[0]
        except BaseException:
            # No client gets its id, whether the copy fails or the request or the server ends.
            for each in forks:
                await self.lifecycle.withdraw(each)
            raise

    async def fork_snapshot(
        self,
        organization_id: OrganizationId,
        snapshot_id: str,
        name: str,
        *,
        keeps_jobs: bool = False,
    ) -> Instance:
        """A new instance, `provisioning`, of the snapshot's `openclaw_version`.

        Raises SnapshotNotFound, VersionUnavailable, InstanceLimitReached.
        """
        with self.snapshots.using(SnapshotId(snapshot_id)):
            snapshot = await self.snapshots.get(organization_id, snapshot_id)
            return await self.make(snapshot, name, keeps_jobs=keeps_jobs)

    async def make(self, snapshot: Snapshot, name: str, *, keeps_jobs: bool = False) -> Instance:
        """As `fork_snapshot`, from a snapshot that is in use."""
        fork = await self.creation.add(
            snapshot.organization_id,
            name=name,
            model_provider=snapshot.model_provider,
            openclaw_config=snapshot.content.get("overrides"),
            egress=snapshot.egress,
            openclaw_version=snapshot.openclaw_version or DEFAULT_VERSION,
            origin_snapshot_id=snapshot.id,
            clock=snapshot.clock,
            switched_off_jobs=snapshot.switched_off_jobs,
        )
        if keeps_jobs:
            self.keep_jobs(fork.id)
        self.events.publish(
            EventType.INSTANCE_FORKED,
            fork.organization_id,
            fork.id,
            of_instance_id=snapshot.instance_id,
            snapshot_id=snapshot.id,
        )
        return fork


@dataclass(eq=False, repr=False, kw_only=True)
class Restores:
    """Replaces an instance's sandbox by one that is created from a snapshot."""

    snapshots: Snapshots
    creation: InstanceCreation
    recycling: Recycling
    agents: Agents
    histories: ConversationHistoryQueries
    events: Events

    async def restore(
        self,
        organization_id: OrganizationId,
        stale: Instance,
        snapshot_id: str,
        *,
        keeps_turns: bool = False,
    ) -> Instance:
        """The instance, `provisioning`, with the snapshot's state. Its egress setting stays.

        It also gets the snapshot's `openclaw_version`. With `keeps_turns`, its machine is away: it
        is not drained, lost turns stay, for the agent to hear them again, and so does its clock.
        Raises SnapshotNotFound; VersionUnavailable, before any change; InstanceStateWrong if it is
        `provisioning` or `terminated`.
        """
        with self.snapshots.using(SnapshotId(snapshot_id)):
            snapshot = await self.snapshots.get(organization_id, snapshot_id)
            version = snapshot.openclaw_version or stale.openclaw_version
            await self.creation.versions.check(version)
            async with self.agents.holding(stale) as agent:
                former = agent.row
                if former.status not in COPYABLE:
                    raise InstanceStateWrong(
                        former.status, "running or stopped", former.error_message
                    )
                if not keeps_turns:
                    if former.is_in_memory:
                        await agent.drain()
                    await self.histories.forget_unsaved(former.id)
                clock = former.clock if keeps_turns else snapshot.clock
                restored, is_recycled = await self._replace_sandbox(
                    agent, snapshot, version, clock, may_recycle=not keeps_turns
                )
                self.events.publish(
                    EventType.INSTANCE_RESTORED,
                    restored.organization_id,
                    restored.id,
                    snapshot_id=snapshot.id,
                )
                if not is_recycled:
                    await self.agents.discard(former.sandbox_id)
        return restored

    async def _replace_sandbox(
        self,
        agent: Agent,
        snapshot: Snapshot,
        version: str,
        clock: AgentClock | None,
        *,
        may_recycle: bool,
    ) -> tuple[Instance, bool]:
        """The instance in another sandbox, and whether its former one is made blank.

        If no warm sandbox is ready, that is the other one.
        """
        former, is_recycled = agent.row, False

        async def replace_sandbox(
            fingerprint: str | None, booting: Collection[SandboxId]
        ) -> WarmSandbox | None:
            return await agent.replace_sandbox(
                new_sandbox_id(),
                fingerprint,
                booting,
                openclaw_config=snapshot.content.get("overrides"),
                model_provider=snapshot.model_provider,
                origin_snapshot_id=snapshot.id,
                openclaw_version=version,
                clock=clock,
                switched_off_jobs=snapshot.switched_off_jobs,
            )

        async def write(
            fingerprint: str | None, booting: Collection[SandboxId]
        ) -> tuple[Instance, WarmSandbox | None]:
            nonlocal is_recycled
            claimed = await replace_sandbox(fingerprint, ())
            is_needed = claimed is None and fingerprint is not None
            if may_recycle:
                is_recycled = await self.recycling.take_restored(former, is_needed=is_needed)
            if is_needed:
                # Its own is blank sooner than another one has booted.
                own = {former.sandbox_id} if is_recycled else booting
                claimed = await replace_sandbox(fingerprint, own)
            return agent.row, claimed

        wanted = replace(agent.row, openclaw_version=version, clock=clock)
        return await self.creation.claim_or_boot(wanted, write), is_recycled
