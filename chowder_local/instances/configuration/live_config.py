"""Changing a running agent's configuration atomically."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import (
    ConfigNotApplied,
    ConfigRefused,
    FileMissing,
    FileRefused,
    FileTooLarge,
    GatewayUnavailable,
)
from chowder_local.core.errors.sandboxes import BootFailed
from chowder_local.core.tasks import watched
from chowder_local.openclaw.config.agent_config import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chowder_local.core.domain import Instance, SandboxId
    from chowder_local.instances.conversations.models import VisionModels
    from chowder_local.instances.engine_protocol import Engine
    from chowder_local.instances.lifecycle.readiness import Readiness
    from chowder_local.instances.lifecycle.sandbox_boot import SandboxBoot
    from chowder_local.instances.transitions import Transitions
    from chowder_local.openclaw.files import Files
    from chowder_local.openclaw.gateway import Gateway, GatewayOf

LOG_LINES = 20
REASON_TIMEOUT_S = 2.0
"""OpenClaw answers that a reload failed before the engine's log says why."""
REASON_INTERVAL_S = 0.1

_RELOAD_FAILED = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d) .*reload failed: (.+)")


@dataclass(eq=False, repr=False, kw_only=True)
class LiveConfig:
    """Patches configurations, and restores the former one if OpenClaw cannot use the new one."""

    transitions: Transitions
    engine: Engine
    sandbox_boot: SandboxBoot
    readiness: Readiness
    files: Files
    gateway_of: GatewayOf
    vision_models: VisionModels

    async def change(self, instance: Instance, patch: Mapping[str, Any]) -> bool:
        """Applies a merge patch; the agent accepts turns when this returns.

        True if the gateway has restarted itself for it. Raises ConfigRefused with OpenClaw's
        message if it refuses the patch or does not start with it, and nothing has changed then;
        raises GatewayUnavailable, BootFailed, EngineUnavailable.
        """
        gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
        # Held until no restore can follow, which would undo other changes.
        async with gateway.hold_config() as revise:
            try:
                async with watched(self.engine.version):
                    return await self._apply(instance, gateway, lambda: revise(lambda _: patch))
            finally:
                # The configuration may have another list of models now.
                self.vision_models.forget(instance.sandbox_id)

    async def _apply(
        self, instance: Instance, gateway: Gateway, patch: Callable[[], Awaitable[bool]]
    ) -> bool:
        # OpenClaw writes some configurations before it finds that they cannot work.
        former = await self._read(instance.sandbox_id)
        began_s, began = time.monotonic(), datetime.now(UTC)
        try:
            if has_restarted := await patch():
                await gateway.wait_for_restart(began_s)
                await self.readiness.wait(await self.engine.inspect(instance.sandbox_id))
        except ConfigNotApplied:
            await self.files.write_text(instance.sandbox_id, CONFIG_FILE, former)
            reason = await self._reason(instance.sandbox_id, began)
            raise ConfigRefused(f"OpenClaw does not apply this: {reason}") from None
        except BootFailed as failure:
            await self._boot_with(instance, former)
            raise ConfigRefused(f"OpenClaw does not start with this: {failure}") from None
        return has_restarted

    async def _reason(self, sandbox_id: SandboxId, since: datetime) -> str:
        """Why a reload has failed, according to the sandbox's log."""
        ends_s = time.monotonic() + REASON_TIMEOUT_S
        while True:
            log_text = await self.engine.log_tail(sandbox_id, LOG_LINES)
            if reason := _reload_failure(log_text, since):
                return reason
            if time.monotonic() > ends_s:
                return "its log does not say why"
            await asyncio.sleep(REASON_INTERVAL_S)

    async def _read(self, sandbox_id: SandboxId) -> str:
        try:
            return await self.files.text(sandbox_id, CONFIG_FILE)
        except (FileMissing, FileRefused, FileTooLarge) as failure:
            # The agent can damage its own configuration file.
            raise GatewayUnavailable(f"its configuration cannot be read: {failure}") from None

    async def _boot_with(self, instance: Instance, former: str) -> None:
        url = await self.sandbox_boot.boot(instance, {CONFIG_FILE: former.encode()})
        await self.transitions.update(instance, gateway_url=url)


def _reload_failure(log_text: str, since: datetime) -> str | None:
    """The reason of the latest failed reload in a log, unless it is older than `since`."""
    for stamp, reason in reversed(_RELOAD_FAILED.findall(log_text)):
        # The agent's own programs can write such lines, too.
        with suppress(ValueError):
            return str(reason) if datetime.fromisoformat(stamp) >= since else None
    return None
