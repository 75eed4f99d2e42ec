"""Loads the plugins of channels in a sandbox that no agent has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import ConfigNotApplied, GatewayUnavailable
from chowder_local.openclaw.channel_table import CHANNELS, ConnectionType, to_openclaw_config
from chowder_local.openclaw.channels import LOOK_INTERVAL_S, channel_states

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from chowder_local.openclaw.gateway import Gateway

log = logging.getLogger(__name__)

TRY_TIMEOUT_S = 5.0
"""For all channels to have tried to connect; what they have not loaded then, an agent loads."""


@dataclass(eq=False, repr=False)
class ChannelPreload:
    """Connects channels to a local messenger of nobody, and disconnects them.

    OpenClaw loads a plugin when its channel is first connected and keeps its code, so that an agent
    that gets the sandbox connects sooner. `fields` returns those of the local messenger by channel.
    """

    fields: Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]]

    def __post_init__(self) -> None:
        self._has_failed = False

    async def load(self, gateway: Gateway) -> None:
        """Loads the plugins; afterwards the configuration has nothing of them.

        After a failure it does nothing any more. Raises ChowderError if the sandbox may still have
        a channel.
        """
        if self._has_failed:
            return
        sections = {
            name: to_openclaw_config(CHANNELS[name], given) | {"enabled": True}
            for name, given in (await self.fields()).items()
            # The others need files, too.
            if CHANNELS[name].connection_type is ConnectionType.CREDENTIALS
        }
        if not sections:
            return
        try:
            await _connect(gateway, sections)
            await _remove(gateway, sections)
        except ChowderError:
            self._has_failed = True
            log.warning("warm sandboxes do without the plugins of %s", ", ".join(sections))
            raise


async def _connect(gateway: Gateway, sections: Mapping[str, Any]) -> None:
    """Returns when each channel has tried."""
    with contextlib.suppress(ConfigNotApplied):
        await _patch(gateway, {"channels": dict(sections)})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRY_TIMEOUT_S):
            while True:
                states = await channel_states(gateway)
                if all(states[each].is_connected or states[each].has_failed for each in sections):
                    return
                await asyncio.sleep(LOOK_INTERVAL_S)


async def _remove(gateway: Gateway, names: Collection[str]) -> None:
    gone = dict.fromkeys(names)
    # OpenClaw enables the plugin of a channel that it finds.
    await _patch(gateway, {"channels": gone, "plugins": {"entries": gone}})
    config = untrusted_json.object_at(await gateway.call("config.get", {}), "sourceConfig")
    if set(names) & untrusted_json.object_at(config, "channels").keys():
        raise GatewayUnavailable("a warm sandbox keeps a channel")


async def _patch(gateway: Gateway, patch: Mapping[str, Any]) -> None:
    began_s = time.monotonic()
    if await gateway.patch_config(patch):
        await gateway.wait_for_restart(began_s)
