"""Draining an agent: its running turn ends, and no other begins until it is resumed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.openclaw.gateway import GatewayOf

log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.1


@dataclass(eq=False, repr=False)
class Drain:
    """Begins and ends drains. OpenClaw ends a drain by itself after two minutes."""

    gateway_of: GatewayOf
    timeout_s: float

    def __post_init__(self) -> None:
        self._begun: dict[SandboxId, str] = {}

    async def drain(self, instance: Instance, url: str | None) -> None:
        """Blocks new turns and waits for the running one to end, up to the timeout."""
        try:
            gateway = self.gateway_of(instance.sandbox_id, url)
            async with asyncio.timeout(self.timeout_s):
                suspension = await gateway.suspend(instance.sandbox_id)
                self._begun[instance.sandbox_id] = suspension.id
                while not suspension.is_drained:
                    await asyncio.sleep(DRAIN_POLL_S)
                    suspension = await gateway.suspension(suspension.id)
        except (TimeoutError, GatewayUnavailable, RpcRefused) as reason:
            # An agent that is frozen during a turn continues it when it is started again.
            log.info("instance %s: stopped without draining: %r", instance.id, reason)

    async def resume(self, instance: Instance, url: str | None) -> None:
        """Lets the agent accept turns again. Raises GatewayUnavailable, RpcRefused."""
        gateway = self.gateway_of(instance.sandbox_id, url)
        begun = self._begun.pop(instance.sandbox_id, None)
        if begun is None:
            # OpenClaw allows thirty suspensions a minute, so none is spent without need.
            if await gateway.is_started():
                return
            # An earlier server process may have begun one: suspending again returns its id.
            begun = (await gateway.suspend(instance.sandbox_id)).id
        await gateway.resume(begun)

    def forget(self, sandbox_id: SandboxId) -> None:
        """Drops the drain of a sandbox that is gone."""
        self._begun.pop(sandbox_id, None)

    async def resume_if_suspended(self, instance: Instance) -> None:
        """Ends a drain that a failed or interrupted stop has left. Logs failures."""
        try:
            if not await self.gateway_of(instance.sandbox_id, instance.gateway_url).is_started():
                await self.resume(instance, instance.gateway_url)
        except (GatewayUnavailable, RpcRefused) as reason:
            log.warning("instance %s: still drained: %s", instance.id, reason)
