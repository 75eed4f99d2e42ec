"""Spares: blank sandboxes, made before anybody asks, and what turns one into an instance's."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import SandboxId, SandboxSpec, SandboxState, Spare
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.sandboxes import SandboxMissing
from chowder_local.core.tasks import contained, together
from chowder_local.openclaw.config import agent_config
from chowder_local.openclaw.config.agent_config import BLANK_PROVIDER
from chowder_local.openclaw.models import DEFAULT_MODELS, ModelRoute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from chowder_local.core.domain import Egress, Instance
    from chowder_local.instances.configuration.initial_config import InitialConfigs
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.readiness import Readiness
    from chowder_local.instances.snapshots.service import Snapshots
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.home.state_transfer import StateTransfers
    from chowder_local.openclaw.warmup import WarmUp
    from chowder_local.store.spares import SpareQueries

log = logging.getLogger(__name__)

CAME_TO_NOTHING = "the spare came to nothing"
WAKE_TIMEOUT_S = 15.0
"""Several that are woken at once keep each other; to throw one away costs a boot, and more."""


class _Booting:
    """How far a spare is that boots."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._is_there: asyncio.Future[bool] = loop.create_future()
        self._url: asyncio.Future[str | None] = loop.create_future()

    def begun(self) -> None:
        self._is_there.set_result(True)

    def ended(self, url: str | None) -> None:
        """Notes the address of its gateway, or that it has none."""
        if not self._is_there.done():
            self._is_there.set_result(False)
        self._url.set_result(url)

    async def sandbox(self) -> None:
        """Waits until it has a sandbox that runs. Raises GatewayUnavailable if that fails."""
        if not await asyncio.shield(self._is_there):
            raise GatewayUnavailable(CAME_TO_NOTHING)

    async def gateway_url(self) -> str:
        """Waits until it is booted. Raises GatewayUnavailable if that fails."""
        if (url := await asyncio.shield(self._url)) is None:
            raise GatewayUnavailable(CAME_TO_NOTHING)
        return url


class Spares:
    """Makes, freezes, wakes and discards spares; the store decides who gets one."""

    def __init__(
        self,
        *,
        spares: SpareQueries,
        engine: Engine,
        readiness: Readiness,
        initial_configs: InitialConfigs,
        warm_up: WarmUp,
        state_transfers: StateTransfers,
        snapshots: Snapshots,
        gateway_of: Callable[[SandboxId, str], Gateway],
        egress: Egress,
        freeze_after_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._spares = spares
        self._engine = engine
        self._readiness = readiness
        self._initial_configs = initial_configs
        self._warm_up = warm_up
        self._state_transfers = state_transfers
        self._snapshots = snapshots
        self._gateway_of = gateway_of
        self._egress = egress
        self._freeze_after_s = freeze_after_s
        self._clock = clock
        self._offered: SandboxId | None = None
        self._offering = asyncio.Lock()
        self._booting: dict[SandboxId, _Booting] = {}
        self._awake_since: dict[SandboxId, datetime] = {}
        self._freezing = asyncio.Lock()

    @property
    def likeness(self) -> str:
        """What a spare must have been made of to be as good as a sandbox made now."""
        made_of = (self._engine.likeness, self._initial_configs.likeness, self._egress)
        return ".".join((*made_of, self._warm_up.likeness))

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
        await self._warm_up.warm(sandbox_id, self._gateway_of(sandbox_id, url), model)
        try:
            # Nobody waits now; for a fork, its start would be a fifth of all the work.
            await self._state_transfers.prepare(sandbox_id)
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
        booting = self._booting[sandbox_id] = _Booting()
        self._offered = sandbox_id
        url, failure = None, None
        try:
            files = {agent_config.CONFIG_FILE: self._initial_configs.of(sandbox_id)}
            spec = SandboxSpec(sandbox_id, files, is_spare=True, egress=self._egress)
            sandbox = await self._engine.boot(spec)
            booting.begun()
            url = await self._readiness.wait(sandbox)
        except ChowderError as problem:
            failure = problem
        finally:
            self._offered = None
            booting.ended(url)
        # Not offered any more: a warm-up's turns must not be answered with a user's key.
        async with self._offering:
            is_claimed = not await self._spares.has(sandbox_id)
        if is_claimed:
            # `wake` takes it from here.
            if failure is not None:
                log.warning("spare %s: claimed, but not booted: %s", sandbox_id, failure)
            return None
        self._booting.pop(sandbox_id, None)
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
        await self.forget(spare.sandbox_id)
        await self._engine.remove(spare.sandbox_id)
        return True

    async def forget(self, sandbox_id: SandboxId) -> None:
        """Ends what goes on for one that is a spare no more; what is an instance's stays."""
        self._booting.pop(sandbox_id, None)
        self._awake_since.pop(sandbox_id, None)
        await self._state_transfers.forget(sandbox_id)

    async def wake(self, instance: Instance, spare: Spare) -> str:
        """Turns a spare into the sandbox of an instance that has claimed it.

        What that is to be like, if not blank, may still be copied.
        Gives its gateway's address; turns are taken when this returns. Raises ChowderError.
        """
        try:
            return await self._woken(instance, spare)
        finally:
            await self._state_transfers.forget(spare.sandbox_id)

    async def _woken(self, instance: Instance, spare: Spare) -> str:
        if (url := spare.gateway_url) is None:
            booting = await self._handed_over(spare.sandbox_id)
            # Not at once: what takes another boot need not wait for this one.
            patch = await self._likened(instance, booting)
            url = await booting.gateway_url()
            gateway = self._gateway_of(spare.sandbox_id, url)
            is_started = await gateway.wait_until_started(WAKE_TIMEOUT_S)
        else:
            async with self._freezing:
                self._awake_since.pop(spare.sandbox_id, None)
            await self._engine.unpause(spare.sandbox_id)
            gateway = self._gateway_of(spare.sandbox_id, url)
            patch, is_started = await together(
                self._likened(instance), gateway.wait_until_started(WAKE_TIMEOUT_S)
            )
        began_s = time.monotonic()
        if patch and await gateway.patch_config(patch):
            await gateway.wait_for_restart(began_s)
            is_started = await gateway.wait_until_started(WAKE_TIMEOUT_S)
        if not is_started:
            raise GatewayUnavailable("the spare does not take turns")
        return url

    async def _likened(self, instance: Instance, booting: _Booting | None = None) -> dict[str, Any]:
        """What is to be changed in its configuration, once it has what it is to have."""
        if instance.seed_snapshot_id is None:
            return agent_config.blank_patch(instance.model_provider, instance.openclaw_config)
        async with self._state_transfers.open(instance.sandbox_id) as pour:
            await pour.unpack(await self._snapshots.chunks(instance))
            if booting is not None:
                await pour.check()
                url = await booting.gateway_url()
                await self._gateway_of(instance.sandbox_id, url).open_conversations()
            _, origin = await together(pour.apply(), self._snapshots.origin(instance))
        if origin is None:
            raise SandboxMissing("There is nothing that the agent could be made of.")
        return self._initial_configs.change_to(origin, instance)

    async def _handed_over(self, sandbox_id: SandboxId) -> _Booting:
        """One that was still booting when it was claimed, once it has a sandbox that runs."""
        if (booting := self._booting.pop(sandbox_id, None)) is None:
            raise GatewayUnavailable(CAME_TO_NOTHING)
        await booting.sandbox()
        await self._engine.promote(sandbox_id)
        return booting
