"""Spares: blank sandboxes, made before anybody asks, and what turns one into an instance's."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

from chowder_local.domain import SandboxId, SandboxSpec, SandboxState, Spare
from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.openclaw import config
from chowder_local.openclaw.config import BLANK_PROVIDER
from chowder_local.openclaw.models import DEFAULT_MODELS, ModelRoute

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.domain import Instance
    from chowder_local.instances.ports import Engine
    from chowder_local.instances.readiness import Readiness
    from chowder_local.instances.seeds import Seeds
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.warmup import WarmUp
    from chowder_local.store.spares import SpareQueries

log = logging.getLogger(__name__)


class Spares:
    """Makes, wakes and discards spares; the store decides who gets one."""

    def __init__(
        self,
        *,
        spares: SpareQueries,
        engine: Engine,
        readiness: Readiness,
        seeds: Seeds,
        warm_up: WarmUp,
        gateway_of: Callable[[SandboxId, str], Gateway],
        clock: Callable[[], datetime],
    ) -> None:
        self._spares = spares
        self._engine = engine
        self._readiness = readiness
        self._seeds = seeds
        self._warm_up = warm_up
        self._gateway_of = gateway_of
        self._clock = clock

    @property
    def likeness(self) -> str:
        """What a spare must have been made of to be as good as a sandbox made now."""
        return f"{self._engine.likeness}.{self._seeds.likeness}"

    async def make(self) -> None:
        """A spare: booted, warmed by a turn, and frozen. Raises ChowderError."""
        sandbox_id = SandboxId(f"chowder-{secrets.token_hex(6)}")
        # The row first: should we die on the way, it tells that the sandbox is nobody's.
        await self._spares.add(Spare(sandbox_id, self.likeness, self._clock()))
        files = {config.CONFIG_FILE: self._seeds.of(sandbox_id)}
        booted = await self._engine.boot(SandboxSpec(sandbox_id, files, is_spare=True))
        url = await self._readiness.wait(booted)
        model = ModelRoute(BLANK_PROVIDER, DEFAULT_MODELS[BLANK_PROVIDER]).openclaw_model
        await self._warm_up.of(sandbox_id, self._gateway_of(sandbox_id, url), model)
        await self._engine.park(sandbox_id)
        await self._spares.ready(sandbox_id, url)
        log.info("spare %s: ready", sandbox_id)

    async def is_fit(self, spare: Spare) -> bool:
        """Whether a spare would be as good as a sandbox made now."""
        if spare.gateway_url is None or spare.likeness != self.likeness:
            return False
        return (await self._engine.inspect(spare.sandbox_id)).state is SandboxState.PAUSED

    async def discard(self, spare: Spare) -> bool:
        """Destroys a spare; False if an instance was quicker."""
        if not await self._spares.drop(spare.sandbox_id):
            return False
        await self._engine.remove(spare.sandbox_id)
        return True

    async def wake(self, instance: Instance, spare: Spare) -> str:
        """Turns a spare into the sandbox of an instance that has claimed it.

        Gives its gateway's address; turns are taken when this returns. Raises ChowderError.
        """
        url = spare.gateway_url
        if url is None:
            raise GatewayUnavailable("the spare was not ready")
        await self._engine.unpause(spare.sandbox_id)
        gateway = self._gateway_of(spare.sandbox_id, url)
        patch = config.blank_patch(instance.model_provider, instance.openclaw_config)
        began_s = time.monotonic()
        if patch and await gateway.patch_config(patch):
            await gateway.restarted(began_s)
        if not await gateway.is_started():
            raise GatewayUnavailable("the spare does not take turns")
        return url
