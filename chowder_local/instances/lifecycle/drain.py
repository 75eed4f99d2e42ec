"""Keeping turns from an agent for a while, so that it can be frozen, and letting it go on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.openclaw.gateway import GatewayOf

log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.1


class Drain:
    """Begins and ends them; one that nobody ends lapses, but only after two minutes."""

    def __init__(self, gateway_of: GatewayOf, timeout_s: float) -> None:
        self._gateway_of = gateway_of
        self._timeout_s = timeout_s
        self._begun: dict[SandboxId, str] = {}

    async def drain(self, instance: Instance, url: str | None) -> None:
        """Lets the running turn end and no other begin, if that can be had within the timeout."""
        try:
            gateway = self._gateway_of(instance.sandbox_id, url)
            async with asyncio.timeout(self._timeout_s):
                suspension = await gateway.suspend(instance.sandbox_id)
                self._begun[instance.sandbox_id] = suspension.id
                while not suspension.is_drained:
                    await asyncio.sleep(DRAIN_POLL_S)
                    suspension = await gateway.suspension(suspension.id)
        except (TimeoutError, GatewayUnavailable, RpcRefused) as reason:
            # Frozen in the middle of a turn, it goes on with it when it is started again.
            log.info("instance %s: stopped without draining: %r", instance.id, reason)

    async def resume(self, instance: Instance, url: str | None) -> None:
        """Lets it take turns again; harmless if it does. Raises GatewayUnavailable, RpcRefused."""
        gateway = self._gateway_of(instance.sandbox_id, url)
        begun = self._begun.pop(instance.sandbox_id, None)
        if begun is None:
            # OpenClaw begins thirty in a minute, so it is asked for none in vain.
            if await gateway.is_started():
                return
            # In an earlier life of ours, maybe. Asked again, it tells which one is to be ended.
            begun = (await gateway.suspend(instance.sandbox_id)).id
        await gateway.resume(begun)

    def forget(self, sandbox_id: SandboxId) -> None:
        """Of a sandbox that is gone."""
        self._begun.pop(sandbox_id, None)

    async def resume_if_suspended(self, instance: Instance) -> None:
        """Ends one that a stop has left which failed, or in which the server died."""
        try:
            if not await self._gateway_of(instance.sandbox_id, instance.gateway_url).is_started():
                await self.resume(instance, instance.gateway_url)
        except (GatewayUnavailable, RpcRefused) as reason:
            log.warning("instance %s: not resumed: %s", instance.id, reason)
