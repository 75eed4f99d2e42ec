"""What an agent has to go on with although nobody sends it messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core import untrusted_json
from chowder_local.openclaw.channel_table import CHANNELS, is_local

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chowder_local.openclaw.gateway import Gateway

GATEWAY_PROCESS = "openclaw-gateway"
OPENCLAW_PROGRAMS = "/opt/openclaw/node_modules/"
DEFUNCT = "<defunct>"


async def find_standing_work(gateway: Gateway) -> str | None:
    """What OpenClaw does by itself: channels, heartbeats or jobs; None if it does nothing.

    Raises GatewayUnavailable, RpcRefused.
    """
    config = await gateway.call("config.get", {})
    channels = untrusted_json.object_at(config, "sourceConfig", "channels")
    for name in CHANNELS:
        section = untrusted_json.object_of(channels.get(name))
        # The local messenger wakes its agent.
        if section.get("enabled") is True and not is_local(section):
            return f"{name} is connected"
    health = await gateway.call("health", {})
    for agent in untrusted_json.objects_of(health.get("agents")):
        if untrusted_json.object_of(agent.get("heartbeat")).get("enabled"):
            return "it has a heartbeat"
    jobs = await gateway.call("cron.list", {})
    for job in untrusted_json.objects_of(jobs.get("jobs")):
        # Jobs with this key are OpenClaw's own, which every agent has.
        if job.get("enabled") and not job.get("declarationKey"):
            return "it has scheduled jobs"
    return None


def has_foreign_process(commands: Iterable[str]) -> bool:
    """Whether a sandbox runs programs besides OpenClaw's; its first process is the container's."""
    _, *others = commands
    return not all(
        GATEWAY_PROCESS in each or OPENCLAW_PROGRAMS in each or DEFUNCT in each for each in others
    )
