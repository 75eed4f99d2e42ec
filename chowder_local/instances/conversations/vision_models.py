"""Telling agents which models can see: OpenClaw shows images to no model that it does not know."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw import models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway

    PatchOf = Callable[[Mapping[str, Any], models.ModelRoute], dict[str, Any] | None]

CAPACITY = 10_000


class VisionModels:
    """Which models have been made known as seeing, to which sandbox.

    Any model id is taken, so they are made known with the first image that one is sent.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        # A model that falls out is merely looked up once more.
        self._given: OrderedDict[tuple[SandboxId, str], None] = OrderedDict()

    async def ensure_registered(
        self,
        sandbox_id: SandboxId,
        gateway: Gateway,
        route: models.ModelRoute,
        patch_of: PatchOf = models.vision_patch,
    ) -> None:
        """Makes sure that a model is shown images, or of what else `patch_of` makes a patch.

        Raises GatewayUnavailable, ConfigRefused.
        """
        key = (sandbox_id, route.openclaw_model)
        if key not in self._given:
            # A patch replaces the list of models whole, so it is made of the list in force.
            await gateway.revise_config(lambda config: patch_of(config, route))
        self._given[key] = None
        self._given.move_to_end(key)
        if len(self._given) > self._capacity:
            self._given.popitem(last=False)

    def forget(self, sandbox_id: SandboxId) -> None:
        """Says that a sandbox may no longer know what it was told."""
        for key in [each for each in self._given if each[0] == sandbox_id]:
            del self._given[key]
