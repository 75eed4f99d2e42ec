"""Finding instances, as callers may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core import request_context
from chowder_local.core.domain import InstanceId
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chowder_local.core.domain import Caller, Instance, InstanceStatus, OrganizationId
    from chowder_local.store.instances import InstanceQueries


class InstanceDirectory:
    """Looks instances up; those of other organizations are not found."""

    def __init__(self, instances: InstanceQueries) -> None:
        self._instances = instances

    async def get(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """One of the organization's instances. Raises InstanceNotFound."""
        instance = await self._instances.get(InstanceId(instance_id))
        if instance is None or instance.organization_id != organization_id:
            raise InstanceNotFound
        return instance

    async def begin(self, organization_id: OrganizationId, instance_id: str) -> Instance:
        """The instance that the request is about from now on, as the log shows."""
        instance = await self.get(organization_id, instance_id)
        request_context.set_instance(instance.id)
        return instance

    async def current(self, seen: Instance, *wanted: InstanceStatus) -> Instance:
        """The instance as it is now. Raises InstanceNotFound, InstanceStateWrong."""
        instance = await self.get(seen.organization_id, seen.id)
        if wanted and instance.status not in wanted:
            raise InstanceStateWrong(instance.status, " or ".join(wanted))
        return instance

    def all(self, caller: Caller) -> AsyncGenerator[list[Instance]]:
        """The instances that a key is for and that are not terminated, oldest first, in pages."""
        if caller.is_organization_key:
            return self._instances.of_organization(caller.organization_id)
        return self._instances.of_key(caller.key_id)

    async def search(
        self,
        organization_id: OrganizationId,
        *,
        text: str = "",
        status: InstanceStatus | None = None,
        after_id: str | None = None,
        limit: int,
    ) -> list[Instance]:
        """Some of an organization's instances, newest first, as people look for them.

        Raises InstanceNotFound if that after which to go on is not there.
        """
        after = None if after_id is None else await self.get(organization_id, after_id)
        return await self._instances.search(
            organization_id, text=text, status=status, after=after, limit=limit
        )

    async def counts(self, organization_id: OrganizationId) -> dict[InstanceStatus, int]:
        """How many instances an organization has in each status."""
        return await self._instances.counts(organization_id)
