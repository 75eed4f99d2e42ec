"""Resetting an organization: removing its instances, scoped keys, faults and snapshots."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.errors import ChowderError

if TYPE_CHECKING:
    from chowder_local.accounts.keys import Keys
    from chowder_local.core.domain import Instance, OrganizationId
    from chowder_local.core.fault_injection import Faults
    from chowder_local.instances.lifecycle.service import Lifecycle
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.relay.scripts.registry import ScriptRegistry
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

DELETE_CONCURRENCY = 4
"""So few instances are deleted at once, because other requests need the engine as well."""


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
                    await self.lifecycle.delete(organization_id, instance.id)
                except ChowderError as failure:
                    log.warning("instance %s: not removed yet: %s", instance.id, failure)
                    return failure
                return None

        outcomes = await asyncio.gather(*map(delete, instances))
        snapshots = await self.snapshots.of_organization(organization_id)
        for snapshot in snapshots:
            await self.snapshots.remove(organization_id, snapshot.id)
        log.info("organization %s: reset, %d instances deleted", organization_id, len(instances))
        for failure in filter(None, outcomes):
            raise failure
        return ResetReport(len(instances), keys, faults, len(snapshots))
