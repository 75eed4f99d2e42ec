"""Telling agents which models can see: OpenClaw shows images to no model that it does not know."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from chowder_local.openclaw import models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.domain import SandboxId
    from chowder_local.openclaw.gateway import Gateway

    PatchOf = Callable[[Mapping[str, Any], models.ModelRoute], dict[str, Any] | None]

CAPACITY = 10_000


class Eyesight:
    """Which models have been made known as seeing, to which sandbox.

    Any model id is taken, so they are made known with the first image that one is sent.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        # A model that falls out is merely looked up once more.
        self._given: OrderedDict[tuple[SandboxId, str], None] = OrderedDict()
        self._locks: WeakValueDictionary[SandboxId, asyncio.Lock] = WeakValueDictionary()

    async def give(
        self,
        sandbox_id: SandboxId,
        gateway: Gateway,
        route: models.ModelRoute,
        patch_of: PatchOf = models.sight_patch,
    ) -> None:
        """Makes sure that a model is shown images, or of what else `patch_of` makes a patch.

        Raises GatewayUnavailable, ConfigRefused.
        """
        key = (sandbox_id, route.openclaw_model)
        lock = self._locks.setdefault(sandbox_id, asyncio.Lock())
        # A patch replaces the list of models whole, so nobody else may be at it.
        async with lock:
            if key not in self._given:
                config = (await gateway.call("config.get", {})).get("config") or {}
                if patch := patch_of(config, route):
                    await gateway.patch_config(patch)
            self._given[key] = None
            self._given.move_to_end(key)
            if len(self._given) > self._capacity:
                self._given.popitem(last=False)
