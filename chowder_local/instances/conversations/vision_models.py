"""Registering vision models: OpenClaw sends images only to models that it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from chowder_local.openclaw import models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway

    PatchOf = Callable[[Mapping[str, Any], models.ModelRoute], dict[str, Any] | None]

CAPACITY = 10_000


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
