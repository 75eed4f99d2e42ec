"""Spares: blank sandboxes, made before anybody asks, and what turns one into an instance's."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from chowder_local.domain import SandboxId, SandboxSpec, SandboxState, Spare
from chowder_local.errors import ChowderError
from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.errors.sandboxes import SandboxMissing
from chowder_local.openclaw import config
from chowder_local.openclaw.config import BLANK_PROVIDER
from chowder_local.openclaw.models import DEFAULT_MODELS, ModelRoute
from chowder_local.tasks import contained, together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from chowder_local.domain import Egress, Instance
    from chowder_local.instances.ports import Engine
    from chowder_local.instances.readiness import Readiness
    from chowder_local.instances.seeds import Seeds
    from chowder_local.instances.snapshots import Snapshots
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.pouring import Pouring
    from chowder_local.openclaw.warmup import WarmUp
    from chowder_local.store.spares import SpareQueries

log = logging.getLogger(__name__)

WAKE_TIMEOUT_S = 15.0
"""Several that are woken at once keep each other; to throw one away costs a boot, and more."""


class Spares:
    """Makes, freezes, wakes and discards spares; the store decides who gets one."""

    def __init__(
        self,
        *,
        spares: SpareQueries,
        engine: Engine,
        readiness: Readiness,
        seeds: Seeds,
        warm_up: WarmUp,
        pouring: Pouring,
        snapshots: Snapshots,
        gateway_of: Callable[[SandboxId, str], Gateway],
        egress: Egress,
        freeze_after_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._spares = spares
        self._engine = engine
        self._readiness = readiness
        self._seeds = seeds
        self._warm_up = warm_up
        self._pouring = pouring
        self._snapshots = snapshots
        self._gateway_of = gateway_of
        self._egress = egress
        self._freeze_after_s = freeze_after_s
        self._clock = clock
        self._offered: SandboxId | None = None
        self._offering = asyncio.Lock()
        self._booting: dict[SandboxId, asyncio.Future[str | None]] = {}
        self._awake_since: dict[SandboxId, datetime] = {}
        self._freezing = asyncio.Lock()

    @property
    def likeness(self) -> str:
        """What a spare must have been made of to be as good as a sandbox made now."""
        return f"{self._engine.likeness}.{self._seeds.likeness}.{self._egress}"

    @asynccontextmanager
    async def offer(self) -> AsyncIterator[SandboxId | None]:
        """The spare that boots just now, for whoever finds none ready: better than another boot.

        It is theirs once its row is dropped within the block; `wake` then waits for it.
        """
        async with self._offering:
            yield self._offered

    async def make(self) -> None:
        """A spare: booted, and warmed by a turn; or a booted one that was claimed.

        Raises ChowderError.
        """
        sandbox_id = SandboxId(f"chowder-{secrets.token_hex(6)}")
        # The row first: should we die on the way, it tells that the sandbox is nobody's.
        await self._spares.add(Spare(sandbox_id, self.likeness, self._clock()))
        if (url := await self._booted(sandbox_id)) is None:
            return
        model = ModelRoute(BLANK_PROVIDER, DEFAULT_MODELS[BLANK_PROVIDER]).openclaw_model
        await self._warm_up.of(sandbox_id, self._gateway_of(sandbox_id, url), model)
        try:
            # Nobody waits now; for a fork, its start would be a fifth of all the work.
            await self._pouring.prepare(sandbox_id)
        except ChowderError as problem:
            log.warning("spare %s: less than ready to become a fork: %s", sandbox_id, problem)
        await self._engine.promote(sandbox_id)
        self._awake_since[sandbox_id] = self._clock()
        if not self._freeze_after_s:
            await self._freeze(sandbox_id)
        await self._spares.ready(sandbox_id, url)
        log.info("spare %s: ready", sandbox_id)

    async def _booted(self, sandbox_id: SandboxId) -> str | None:
        """The address of its gateway; None if an instance has claimed it meanwhile."""
        booting = self._booting[sandbox_id] = asyncio.get_running_loop().create_future()
        self._offered = sandbox_id
        url, failure = None, None
        try:
            files = {config.CONFIG_FILE: self._seeds.of(sandbox_id)}
            spec = SandboxSpec(sandbox_id, files, is_spare=True, egress=self._egress)
            url = await self._readiness.wait(await self._engine.boot(spec))
        except ChowderError as problem:
            failure = problem
        finally:
            self._offered = None
            booting.set_result(url)
        # Not offered any more: a warm-up's turns must not be answered with a user's key.
        async with self._offering:
            is_claimed = not await self._spares.has(sandbox_id)
        if is_claimed:
            # `wake` takes it from here.
            if failure is not None:
                log.warning("spare %s: claimed, but not booted: %s", sandbox_id, failure)
            return None
        del self._booting[sandbox_id]
        if failure is not None:
            raise failure
        return url

    async def is_fit(self, spare: Spare) -> bool:
        """Whether a spare would be as good as a sandbox made now."""
        if spare.gateway_url is None or spare.likeness != self.likeness:
            return False
        state = (await self._engine.inspect(spare.sandbox_id)).state
        if state is SandboxState.RUNNING:
            # The server that made it has ended before it froze it.
            self._awake_since.setdefault(spare.sandbox_id, self._clock())
        return state in {SandboxState.RUNNING, SandboxState.PAUSED}

    async def freeze_idle(self) -> None:
        """Freezes those that were left alone for long enough, each by itself."""
        for sandbox_id, since in list(self._awake_since.items()):
            if (self._clock() - since).total_seconds() >= self._freeze_after_s:
                with contained(f"spare {sandbox_id}: freezing it"):
                    await self._freeze(sandbox_id)

    async def _freeze(self, sandbox_id: SandboxId) -> None:
        # Whoever has claimed it waits for this, or has it awake.
        async with self._freezing:
            if sandbox_id in self._awake_since and await self._spares.has(sandbox_id):
                await self._engine.pause(sandbox_id)
            self._awake_since.pop(sandbox_id, None)

    async def discard(self, spare: Spare) -> bool:
        """Destroys a spare; False if an instance was quicker."""
        if not await self._spares.drop(spare.sandbox_id):
            return False
        self._awake_since.pop(spare.sandbox_id, None)
        await self._pouring.forget(spare.sandbox_id)
        await self._engine.remove(spare.sandbox_id)
        return True

    async def wake(self, instance: Instance, spare: Spare) -> str:
        """Turns a spare into the sandbox of an instance that has claimed it.

        What that is to be like, if not blank, may still be copied.
        Gives its gateway's address; turns are taken when this returns. Raises ChowderError.
        """
        try:
            return await self._woken(instance, spare)
        finally:
            await self._pouring.forget(spare.sandbox_id)

    async def _woken(self, instance: Instance, spare: Spare) -> str:
        if (url := spare.gateway_url) is None:
            url = await self._handed_over(spare.sandbox_id)
        else:
            async with self._freezing:
                self._awake_since.pop(spare.sandbox_id, None)
            await self._engine.unpause(spare.sandbox_id)
        gateway = self._gateway_of(spare.sandbox_id, url)
        patch, is_started = await together(
            self._likened(instance), gateway.starts_within(WAKE_TIMEOUT_S)
        )
        began_s = time.monotonic()
        if patch and await gateway.patch_config(patch):
            await gateway.restarted(began_s)
            is_started = await gateway.starts_within(WAKE_TIMEOUT_S)
        if not is_started:
            raise GatewayUnavailable("the spare does not take turns")
        return url

    async def _likened(self, instance: Instance) -> dict[str, Any]:
        """What is to be changed in its configuration, once it has what it is to have."""
        if instance.seed_snapshot_id is None:
            return config.blank_patch(instance.model_provider, instance.openclaw_config)
        async with self._pouring.into(instance.sandbox_id) as pour:
            _, origin = await together(
                pour(await self._snapshots.chunks(instance)), self._snapshots.origin(instance)
            )
        if origin is None:
            raise SandboxMissing("There is nothing that the agent could be made of.")
        return self._seeds.change_to(origin, instance)

    async def _handed_over(self, sandbox_id: SandboxId) -> str:
        """The address of one that was still booting when it was claimed, once it is booted."""
        url = None
        if (booting := self._booting.pop(sandbox_id, None)) is not None:
            # If it is not there yet, it keeps to what a spare may have; it is only later ready.
            with suppress(SandboxMissing):
                await self._engine.promote(sandbox_id)
            url = await asyncio.shield(booting)
        if url is None:
            raise GatewayUnavailable("the spare came to nothing")
        return url
