"""Resuming a frozen sandbox, or bringing it back from its volume if it is not in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.core.domain import SandboxState
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.events import EventType
from chowder_local.core.tasks import watched

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.core.events import Events
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.drain import Drain
    from chowder_local.instances.lifecycle.egress import EgressRule
    from chowder_local.instances.lifecycle.readiness import Readiness
    from chowder_local.instances.lifecycle.sandbox_boot import SandboxBoot
    from chowder_local.instances.warm_pool.rehydration import Rehydration

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class Waking:
    """Lets the sandbox of a stopped instance accept turns again."""

    engine: Engine
    sandbox_boot: SandboxBoot
    rehydration: Rehydration
    readiness: Readiness
    drain: Drain
    egress: EgressRule
    events: Events

    async def wake(self, instance: Instance) -> Instance:
        """The instance once it accepts turns: perhaps in another sandbox, with its address.

        Its row has the sandbox, but not the address. Raises ChowderError, and EngineSilent as soon
        as the engine is away.
        """
        async with watched(self.engine.version):
            return await self._wake(instance)

    async def _wake(self, instance: Instance) -> Instance:
        sandbox = await self.engine.inspect(instance.sandbox_id)
        if not self.egress.fits(instance, sandbox):
            # A container's networks are set when it is created, so this needs another one.
            return await self._bring_back(instance)
        if sandbox.state is SandboxState.PAUSED:
            await self.engine.unpause(instance.sandbox_id)
            self.events.publish(
                EventType.SANDBOX_RESUMED,
                instance.organization_id,
                instance.id,
                sandbox_id=instance.sandbox_id,
            )
            sandbox = await self.engine.inspect(instance.sandbox_id)
        if sandbox.state is SandboxState.RUNNING:
            try:
                await self.drain.resume(instance, sandbox.gateway_url)
                return replace(instance, gateway_url=await self.readiness.wait(sandbox))
            except (GatewayUnavailable, RpcRefused, BootFailed) as reason:
                log.warning(
                    "instance %s: resuming failed, is booted again: %s", instance.id, reason
                )
        # It was released or died, or the host or the engine was restarted.
        return await self._bring_back(instance)

    async def _bring_back(self, instance: Instance) -> Instance:
        if (moved := await self.rehydration.move(instance)) is not None:
            return moved
        return replace(instance, gateway_url=await self.sandbox_boot.boot(instance))
