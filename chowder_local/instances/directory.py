"""Finding the instances that a caller may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.domain import InstanceId
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chowder_local.core.domain import Caller, Instance, InstanceStatus, OrganizationId
    from chowder_local.store.instances import InstanceQueries


@dataclass(eq=False, repr=False)
class InstanceDirectory:
    """Looks up instances; those of other organizations count as not found."""

    instances: InstanceQueries

    async def get(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """Raises InstanceNotFound if the organization has no instance with that id."""
        instance = await self.instances.get(InstanceId(instance_id))
        if instance is None or instance.organization_id != organization_id:
            raise InstanceNotFound
        return instance

    async def get_for_request(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """As `get`; log lines of this request carry the instance's id from now on."""
        instance = await self.get(organization_id, instance_id)
        logs.set_instance(instance.id)
        return instance

    async def ids_of(self, caller: Caller, name: str) -> list[InstanceId]:
        """The ids of instances with a name that a caller's key is for, some of many."""
        among = None if caller.is_organization_key else caller.grants.keys()
        return await self.instances.ids_of(caller.organization_id, name, among)

    async def current(self, stale: Instance, *wanted: InstanceStatus) -> Instance:
        """The instance as it is now.

        Raises InstanceNotFound if it is gone, InstanceStateWrong if its status is not `wanted`.
        """
        instance = await self.get(stale.organization_id, stale.id)
        if wanted and instance.status not in wanted:
            raise InstanceStateWrong(instance.status, " or ".join(wanted), instance.error_message)
        return instance

    def all(self, caller: Caller) -> AsyncGenerator[list[Instance]]:
        """The instances that a key may use, except terminated ones: oldest first, in pages."""
        if caller.is_organization_key:
            return self.instances.of_organization(caller.organization_id)
        return self.instances.of_key(caller.key_id)

    async def search(
        self,
        organization_id: OrganizationId,
        *,
        text: str = "",
        status: InstanceStatus | None = None,
        after_id: str | None = None,
        limit: int,
    ) -> list[Instance]:
        """At most `limit` of an organization's instances, newest first.

        Raises InstanceNotFound if the organization has no instance `after_id`.
        """
        after = None if after_id is None else await self.get(organization_id, after_id)
        return await self.instances.search(
            organization_id, text=text, status=status, after=after, limit=limit
        )

    async def counts(self, organization_id: OrganizationId) -> dict[InstanceStatus, int]:
        """The number of an organization's living instances in each status."""
        return await self.instances.counts(organization_id)
