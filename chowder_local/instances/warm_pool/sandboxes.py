"""Warm sandboxes: blank ones, made before anybody asks, and what turns one into an instance's."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chowder_local.core.domain import SandboxId, SandboxSpec, SandboxState, WarmSandbox
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import GatewayUnavailable
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
    from chowder_local.instances.warm_pool.hydration import Hydration
    from chowder_local.openclaw.gateway import GatewayOf
    from chowder_local.openclaw.warmup import WarmUp
    from chowder_local.store.warm_sandboxes import WarmSandboxQueries

log = logging.getLogger(__name__)

NEVER_READY = "the warm sandbox never became ready"
WAKE_TIMEOUT_S = 15.0
"""Several that are woken at once keep each other; to throw one away costs a boot, and more."""


class _Booting:
    """How far a warm sandbox is that boots."""

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
            raise GatewayUnavailable(NEVER_READY)

    async def gateway_url(self) -> str:
        """Waits until it is booted. Raises GatewayUnavailable if that fails."""
        if (url := await asyncio.shield(self._url)) is None:
            raise GatewayUnavailable(NEVER_READY)
        return url


class WarmSandboxes:
    """Makes, freezes, wakes and discards them; the store decides which instance gets one."""

    def __init__(
        self,
        *,
        queries: WarmSandboxQueries,
        engine: Engine,
        readiness: Readiness,
        initial_configs: InitialConfigs,
        warm_up: WarmUp,
        hydration: Hydration,
        gateway_of: GatewayOf,
        egress: Egress,
        freeze_after_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._queries = queries
        self._engine = engine
        self._readiness = readiness
        self._initial_configs = initial_configs
        self._warm_up = warm_up
        self._hydration = hydration
        self._gateway_of = gateway_of
        self._egress = egress
        self._freeze_after_s = freeze_after_s
        self._clock = clock
        self._booting_id: SandboxId | None = None
        self._reserving = asyncio.Lock()
        self._booting: dict[SandboxId, _Booting] = {}
        self._awake_since: dict[SandboxId, datetime] = {}
        self._freezing = asyncio.Lock()

    @property
    def fingerprint(self) -> str:
        """What a warm sandbox must have been made of to be as good as a sandbox made now."""
        made_of = (self._engine.fingerprint, self._initial_configs.fingerprint, self._egress)
        return ".".join((*made_of, self._warm_up.fingerprint))

    @asynccontextmanager
    async def reserve_booting(self) -> AsyncIterator[SandboxId | None]:
        """The one that boots just now, for an instance that finds none ready.

        It is the instance's once its row is dropped within the block; `wake` then waits for it.
        """
        async with self._reserving:
            yield self._booting_id

    async def make(self) -> None:
        """One more: booted, and warmed by a turn; or a booted one that was claimed.

        Raises ChowderError.
        """
        sandbox_id = SandboxId(f"chowder-{secrets.token_hex(6)}")
        # The row first: should we die on the way, it tells that the sandbox is nobody's.
        await self._queries.add(WarmSandbox(sandbox_id, self.fingerprint, self._clock()))
        if (url := await self._booted(sandbox_id)) is None:
            return
        model = ModelRoute(BLANK_PROVIDER, DEFAULT_MODELS[BLANK_PROVIDER]).openclaw_model
        await self._warm_up.warm(sandbox_id, self._gateway_of(sandbox_id, url), model)
        try:
            # Nobody waits now; for a fork, its start would be a fifth of all the work.
            await self._hydration.prepare(sandbox_id)
        except ChowderError as problem:
            log.warning(
                "warm sandbox %s: less than ready to become a fork: %s", sandbox_id, problem
            )
        await self._engine.promote(sandbox_id)
        self._awake_since[sandbox_id] = self._clock()
        if not self._freeze_after_s:
            await self._freeze(sandbox_id)
        await self._queries.ready(sandbox_id, url)
        log.info("warm sandbox %s: ready", sandbox_id)

    async def _booted(self, sandbox_id: SandboxId) -> str | None:
        """The address of its gateway; None if an instance has claimed it meanwhile."""
        booting = self._booting[sandbox_id] = _Booting()
        self._booting_id = sandbox_id
        url, failure = None, None
        try:
            files = {agent_config.CONFIG_FILE: self._initial_configs.blank(sandbox_id)}
            spec = SandboxSpec(sandbox_id, files, is_warm=True, egress=self._egress)
            sandbox = await self._engine.boot(spec)
            booting.begun()
            url = await self._readiness.wait(sandbox)
        except ChowderError as problem:
            failure = problem
        finally:
            self._booting_id = None
            booting.ended(url)
        # Not offered any more: a warm-up's turns must not be answered with a user's key.
        async with self._reserving:
            is_claimed = not await self._queries.has(sandbox_id)
        if is_claimed:
            # `wake` takes it from here.
            if failure is not None:
                log.warning("warm sandbox %s: claimed, but not booted: %s", sandbox_id, failure)
            return None
        self._booting.pop(sandbox_id, None)
        if failure is not None:
            raise failure
        return url

    async def is_fit(self, warm: WarmSandbox) -> bool:
        """Whether it would be as good as a sandbox made now."""
        if warm.gateway_url is None or warm.fingerprint != self.fingerprint:
            return False
        state = (await self._engine.inspect(warm.sandbox_id)).state
        if state is SandboxState.RUNNING:
            # The server that made it has ended before it froze it.
            self._awake_since.setdefault(warm.sandbox_id, self._clock())
        return state in {SandboxState.RUNNING, SandboxState.PAUSED}

    async def freeze_idle(self) -> None:
        """Freezes those that were left alone for long enough, each by itself."""
        for sandbox_id, since in list(self._awake_since.items()):
            if (self._clock() - since).total_seconds() >= self._freeze_after_s:
                with contained(f"warm sandbox {sandbox_id}: freezing it"):
                    await self._freeze(sandbox_id)

    async def _freeze(self, sandbox_id: SandboxId) -> None:
        # Whoever has claimed it waits for this, or has it awake.
        async with self._freezing:
            if sandbox_id in self._awake_since and await self._queries.has(sandbox_id):
                await self._engine.pause(sandbox_id)
            self._awake_since.pop(sandbox_id, None)

    async def discard(self, warm: WarmSandbox) -> bool:
        """Destroys one; False if an instance was quicker."""
        if not await self._queries.drop(warm.sandbox_id):
            return False
        await self.forget(warm.sandbox_id)
        await self._engine.remove(warm.sandbox_id)
        return True

    async def forget(self, sandbox_id: SandboxId) -> None:
        """Ends what goes on for one that is in the pool no more; what is an instance's stays."""
        self._booting.pop(sandbox_id, None)
        self._awake_since.pop(sandbox_id, None)
        await self._hydration.forget(sandbox_id)

    async def wake(self, instance: Instance, warm: WarmSandbox) -> str:
        """Turns one into the sandbox of an instance that has claimed it.

        What that is to be like, if not blank, may still be copied.
        Gives its gateway's address; turns are taken when this returns. Raises ChowderError.
        """
        try:
            return await self._wake(instance, warm)
        finally:
            await self._hydration.forget(warm.sandbox_id)

    async def _wake(self, instance: Instance, warm: WarmSandbox) -> str:
        if (url := warm.gateway_url) is None:
            booting = await self._handed_over(warm.sandbox_id)
            # Not at once: what takes another boot need not wait for this one.
            patch = await self._hydration.patch(instance, booting.gateway_url)
            url = await booting.gateway_url()
            gateway = self._gateway_of(warm.sandbox_id, url)
            is_started = await gateway.wait_until_started(WAKE_TIMEOUT_S)
        else:
            async with self._freezing:
                self._awake_since.pop(warm.sandbox_id, None)
            await self._engine.unpause(warm.sandbox_id)
            gateway = self._gateway_of(warm.sandbox_id, url)
            patch, is_started = await together(
                self._hydration.patch(instance), gateway.wait_until_started(WAKE_TIMEOUT_S)
            )
        began_s = time.monotonic()
        if patch and await gateway.patch_config(patch):
            await gateway.wait_for_restart(began_s)
            is_started = await gateway.wait_until_started(WAKE_TIMEOUT_S)
        if not is_started:
            raise GatewayUnavailable("the warm sandbox does not take turns")
        return url

    async def _handed_over(self, sandbox_id: SandboxId) -> _Booting:
        """One that was still booting when it was claimed, once it has a sandbox that runs."""
        if (booting := self._booting.pop(sandbox_id, None)) is None:
            raise GatewayUnavailable(NEVER_READY)
        await booting.sandbox()
        await self._engine.promote(sandbox_id)
        return booting
