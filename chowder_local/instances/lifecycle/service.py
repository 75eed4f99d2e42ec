"""Stopping, starting, changing and deleting instances, and resetting organizations."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.errors.sandboxes import EngineSilent

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.accounts.keys import Keys
    from chowder_local.core.domain import Egress, Instance, InstanceId, OrganizationId
    from chowder_local.core.fault_injection import Faults
    from chowder_local.instances.directory import InstanceDirectory
    from chowder_local.instances.lifecycle.agents import Agents
    from chowder_local.instances.lifecycle.provisioner import Provisioner
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.instances.warm_pool.recycling import Recycling
    from chowder_local.relay.scripts.registry import ScriptRegistry
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

DELETE_CONCURRENCY = 4
"""So few instances are deleted at once, because other requests need the engine as well."""
_ENDED = {InstanceStatus.ERROR, InstanceStatus.TERMINATED}


@dataclass(eq=False, repr=False, kw_only=True)
class Lifecycle:
    """Stops, starts, changes and deletes instances; one operation at a time for each instance."""

    directory: InstanceDirectory
    agents: Agents
    residency: Residency
    provisioner: Provisioner
    recycling: Recycling
    on_delete: Callable[[InstanceId], None]

    async def stop(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Drains and freezes a running instance."""
        stale = await self.directory.get_for_request(organization_id, instance_id)
        async with self.agents.holding(stale, InstanceStatus.RUNNING) as agent:
            if agent.row.is_in_memory:
                # A frozen gateway takes messages, and answers them after the next start.
                self.residency.mark_stale(stale.id)
                await agent.freeze()
            if not await agent.to_stopped():
                await agent.raise_moved()
            return agent.row

    async def start(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Resumes a stopped instance; it accepts turns when this returns."""
        stale = await self.directory.get_for_request(organization_id, instance_id)
        async with self.agents.holding(stale, InstanceStatus.STOPPED) as agent:
            if not await agent.to_running(await agent.resume_or_fail()):
                await agent.raise_moved()
            return agent.row

    async def delete(
        self, organization_id: OrganizationId, instance_id: str, *, recycles: bool = True
    ) -> None:
        """Destroys the data and, unless it is used again, the sandbox; the row is `terminated`.

        If the engine does not answer, the agent can neither be reached nor reach a model, and the
        reconciler destroys it as soon as the engine is back.
        """
        stale = await self.directory.get_for_request(organization_id, instance_id)
        async with self.agents.holding(stale) as agent:
            await self.provisioner.abandon(stale.id)
            used = agent.row
            # The row first: if the server dies before the sandbox is gone, the reconciler goes on.
            await agent.to_terminated()
            self.on_delete(stale.id)
            if recycles and await self.recycling.take_deleted(agent, used):
                log.info("instance %s: deleted, its sandbox is recycled", stale.id)
                return
            sandbox_id = agent.row.sandbox_id
            try:
                await self.agents.remove(sandbox_id)
            except EngineSilent as silent:
                # The client gets no error: a second request would do no more than the reconciler
                # does.
                log.warning("instance %s: deleted, but its sandbox not yet: %s", stale.id, silent)
            else:
                log.info("instance %s: deleted with sandbox %s", stale.id, sandbox_id)

    async def withdraw(self, instance: Instance) -> None:
        """Deletes an instance whose id no client has received."""
        async with self.agents.holding(instance) as agent:
            await self.provisioner.abandon(instance.id)
            await agent.to_terminated()
            await self.agents.discard(agent.row.sandbox_id)

    async def allow_hibernation(self, stale: Instance, is_allowed: bool) -> Instance:
        """The instance, which may hibernate from now on; or not, and then it is in memory.

        Raises InstanceNotFound, and what `Agent.bring_back` raises.
        """
        async with self.agents.holding(stale) as agent:
            if not await agent.update(may_hibernate=is_allowed):
                raise InstanceNotFound
            if not is_allowed:
                await agent.bring_back()
            return agent.row

    async def change_egress(self, stale: Instance, egress: Egress | None) -> Instance:
        """The instance with network egress or without; None means the server's default.

        The sandbox is created again on its volume. If the effective egress of a running instance
        changes, the running turn ends first and the instance goes back to `provisioning`. One that
        is not in memory gets its new sandbox when it is brought back. Raises InstanceStateWrong if
        it has failed or is deleted, and EgressUnavailable.
        """
        rule = self.agents.egress
        wanted = egress or rule.default
        rule.check(wanted)
        async with self.agents.holding(stale) as agent:
            _check_alive(agent.row)
            has_no_sandbox = agent.row.status is InstanceStatus.STOPPED or agent.row.is_hibernated
            if wanted is rule.effective(agent.row) or has_no_sandbox:
                await agent.update(egress=egress)
                return agent.row
            if agent.row.is_in_memory:
                await agent.drain()
            else:
                await self.provisioner.abandon(stale.id)
                # The boot may have ended just before.
                await agent.read()
                _check_alive(agent.row)
            if not await agent.to_provisioning(egress=egress):
                await agent.raise_moved()
            self.provisioner.begin(agent.row)
            log.info("instance %s: egress changed to %s", stale.id, wanted)
            return agent.row


def _check_alive(instance: Instance) -> None:
    if instance.status in _ENDED:
        raise InstanceStateWrong(instance.status, "running or stopped")


@dataclass(frozen=True)
class ResetReport:
    """How many of each were removed."""

    instances: int
    keys: int
    faults: int
    snapshots: int


@dataclass(eq=False, repr=False, kw_only=True)
class OrganizationReset:
    """Resets organizations; keeps their own key, model keys and tier."""

    instances: InstanceQueries
    lifecycle: Lifecycle
    keys: Keys
    faults: Faults
    scripts: ScriptRegistry
    snapshots: Snapshots

    async def reset(self, organization_id: OrganizationId) -> ResetReport:
        """Removes what exists when it begins; returns when it is gone.

        If instances cannot be removed now, their rows are terminated and the reconciler removes
        their sandboxes later; then raises the first of their errors, after the others are gone.
        """
        faults = self.faults.clear(organization_id)
        self.scripts.remove(organization_id)
        # Before the instances, so that no key uses them while they are deleted.
        keys = await self.keys.remove_all(organization_id)
        async with aclosing(self.instances.of_organization(organization_id)) as pages:
            instances = [instance async for page in pages for instance in page]
        slots = asyncio.Semaphore(DELETE_CONCURRENCY)

        async def delete(instance: Instance) -> ChowderError | None:
            async with slots:
                try:
                    await self.lifecycle.delete(organization_id, instance.id, recycles=False)
                except ChowderError as failure:
                    log.warning("instance %s: not removed yet: %s", instance.id, failure)
                    return failure
                return None

        outcomes = await asyncio.gather(*map(delete, instances))
        await self.lifecycle.recycling.discard_all(organization_id)
        snapshots = await self.snapshots.of_organization(organization_id)
        for snapshot in snapshots:
            await self.snapshots.remove(organization_id, snapshot.id)
        log.info("organization %s: reset, %d instances deleted", organization_id, len(instances))
        for failure in filter(None, outcomes):
            raise failure
        return ResetReport(len(instances), keys, faults, len(snapshots))
