"""Taking from an organization all that its tests have made, and nothing else from anybody."""

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

AT_ONCE = 4
"""Instances that are deleted at a time: others have calls to the engine to make as well."""


@dataclass(frozen=True)
class ResetReport:
    """What there was, and is no more."""

    instances: int
    keys: int
    faults: int
    snapshots: int


class OrganizationReset:
    """Leaves an organization itself, its own key, its model keys and its tier."""

    def __init__(
        self,
        *,
        instances: InstanceQueries,
        lifecycle: Lifecycle,
        keys: Keys,
        faults: Faults,
        scripts: ScriptRegistry,
        snapshots: Snapshots,
    ) -> None:
        self._instances = instances
        self._lifecycle = lifecycle
        self._keys = keys
        self._faults = faults
        self._scripts = scripts
        self._snapshots = snapshots

    async def reset(self, organization_id: OrganizationId) -> ResetReport:
        """Removes what there is when it begins, and answers when it is gone.

        Of what cannot be removed now, the row is terminated and the reconciler goes on; then
        raises what the first of them raised, once all the others are gone.
        """
        faults = self._faults.clear(organization_id)
        self._scripts.remove(organization_id)
        # Before the instances, so that nobody uses them while they go.
        keys = await self._keys.remove_all(organization_id)
        async with aclosing(self._instances.of_organization(organization_id)) as pages:
            found = [instance async for page in pages for instance in page]
        places = asyncio.Semaphore(AT_ONCE)

        async def delete(instance: Instance) -> ChowderError | None:
            async with places:
                try:
                    await self._lifecycle.delete(organization_id, instance.id)
                except ChowderError as failure:
                    log.warning("instance %s: not removed yet: %s", instance.id, failure)
                    return failure
                return None

        outcomes = await asyncio.gather(*map(delete, found))
        snapshots = await self._snapshots.of_organization(organization_id)
        for snapshot in snapshots:
            await self._snapshots.remove(organization_id, snapshot.id)
        log.info("Organization %s was reset: %d instances", organization_id, len(found))
        for failure in filter(None, outcomes):
            raise failure
        return ResetReport(len(found), keys, faults, len(snapshots))
