"""Which key an organization's calls of a model provider are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.accounts.organizations import Organizations
    from chowder_local.core.domain import OrganizationId
    from chowder_local.core.model_endpoints import Endpoint


class ModelKeys:
    """An organization's own keys, and those of the providers that the operator named."""

    def __init__(
        self,
        organizations: Organizations,
        endpoints: Mapping[str, Endpoint],
        default_organization_id: OrganizationId,
    ) -> None:
        self._organizations = organizations
        self._endpoints = endpoints
        self._default_organization_id = default_organization_id

    async def of(self, organization_id: OrganizationId, provider: str) -> str | None:
        """The key, "" if the provider wants none, None if there is none for this organization."""
        if (endpoint := self._endpoints.get(provider)) is None:
            if provider not in set(ModelProvider):
                return None
            return await self._organizations.model_key(organization_id, ModelProvider(provider))
        # As with all keys of the environment: whoever signs up does not spend the operator's.
        if endpoint.has_secret and organization_id != self._default_organization_id:
            return None
        return endpoint.key
