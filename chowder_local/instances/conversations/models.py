"""The model that a message asks for: resolving it, and registering it with the agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from chowder_local.core.errors.requests import ModelKeyMissing, ProviderReserved
from chowder_local.core.model_endpoints import OLLAMA
from chowder_local.openclaw import models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.accounts.organizations import ModelKeys
    from chowder_local.core.domain import Instance, OrganizationId, SandboxId
    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.relay.recordings import RecordingRegistry
    from chowder_local.relay.upstreams import Catalogue

    PatchOf = Callable[[Mapping[str, Any], models.ModelRoute], dict[str, Any] | None]

CAPACITY = 10_000


@dataclass(eq=False, repr=False, kw_only=True)
class ModelResolver:
    """Checks models before a message goes to an agent."""

    model_keys: ModelKeys
    endpoints: Mapping[str, Endpoint]
    catalogue: Catalogue
    recordings: RecordingRegistry
    relay_token_of: Callable[[SandboxId], str]
    vision_models: VisionModels

    def route(self, model: str) -> models.ModelRoute:
        """The provider and model of a model id. Raises ModelUnknown if it names none."""
        return models.route(model, self.endpoints)

    async def resolve(self, instance: Instance, model: str) -> models.ModelRoute:
        """As `route`, and checks that the organization can use the model.

        Raises ModelUnknown; ModelKeyMissing if the provider's key is missing; ProviderReserved if
        the endpoint is for other organizations; ModelMissing, ProviderFailed from the catalogue.
        """
        route = self.route(model)
        endpoint = self.endpoints.get(route.provider)
        if await self.model_keys.find(instance.organization_id, route.provider) is None:
            raise (ModelKeyMissing if endpoint is None else ProviderReserved)(route.provider)
        is_called = self.recordings.playback(instance.id) is None
        # The lists of other endpoints may be empty or incomplete.
        if endpoint is not None and endpoint.name == OLLAMA and is_called:
            await self.catalogue.check(endpoint, route.model)
        return route

    async def available(self, organization_id: OrganizationId) -> list[tuple[str, str]]:
        """Usual model ids of the providers that an organization can use, each with its provider."""
        providers = [
            each
            for each in (*models.KNOWN_MODELS, *self.endpoints)
            if await self.model_keys.find(organization_id, each) is not None
        ]
        listed = await asyncio.gather(*map(self._list, providers))
        return [(model, each) for each, ids in zip(providers, listed, strict=True) for model in ids]

    async def _list(self, provider: str) -> list[str]:
        if (endpoint := self.endpoints.get(provider)) is None:
            return list(models.KNOWN_MODELS[provider])
        return [f"{provider}/{each}" for each in await self.catalogue.models(endpoint)]

    async def register(
        self, instance: Instance, gateway: Gateway, route: models.ModelRoute, *, has_images: bool
    ) -> None:
        """Registers a model with the agent if it is of a named endpoint or gets images.

        Raises GatewayUnavailable, ConfigRefused.
        """
        sandbox_id = instance.sandbox_id
        if (endpoint := self.endpoints.get(route.provider)) is not None:
            token = self.relay_token_of(sandbox_id)
            patch_of = partial(models.registration_patch, endpoint=endpoint, relay_token=token)
            await self.vision_models.ensure_registered(sandbox_id, gateway, route, patch_of)
        elif has_images:
            await self.vision_models.ensure_registered(sandbox_id, gateway, route)


class VisionModels:
    """Registers models with sandboxes, and remembers which ones it has registered.

    Any model id is accepted, so a model is registered with the first image that it gets.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        # An evicted model is only looked up once more.
        self._registered: LRUCache[tuple[SandboxId, str], None] = LRUCache(capacity)

    async def ensure_registered(
        self,
        sandbox_id: SandboxId,
        gateway: Gateway,
        route: models.ModelRoute,
        patch_of: PatchOf = models.vision_patch,
    ) -> None:
        """Makes sure that the patch of `patch_of`, by default for images, is in the configuration.

        Raises GatewayUnavailable, ConfigRefused.
        """
        key = (sandbox_id, route.openclaw_model)
        if key not in self._registered:
            # A patch replaces the whole list of models, so it is made from the current list.
            await gateway.revise_config(lambda config: patch_of(config, route))
        self._registered[key] = None

    def forget(self, sandbox_id: SandboxId) -> None:
        """Forgets a sandbox's registrations, because its configuration may have changed."""
        for key in [each for each in self._registered if each[0] == sandbox_id]:
            del self._registered[key]
