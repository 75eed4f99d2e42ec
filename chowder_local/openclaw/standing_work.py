"""What an agent has to go on with although nobody sends it messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chowder_local.core import untrusted_json
from chowder_local.openclaw.channel_table import CHANNELS, is_local
from chowder_local.openclaw.jobs import JobKind
from chowder_local.openclaw.scheduler import list_jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.jobs import Job

GATEWAY_PROCESS = "openclaw-gateway"
OPENCLAW_PROGRAMS = "/opt/openclaw/node_modules/"
DEFUNCT = "<defunct>"
FILE_PROGRAM = "Reads and writes an agent's files from inside its sandbox"
"""How the text of the program of `file_programs` begins, which the command line has."""


class StandingWork(NamedTuple):
    """Why an agent has to stay in memory, if it has to, and the jobs that it has."""

    reason: str | None
    jobs: Sequence[Job] = ()


async def find_standing_work(gateway: Gateway) -> StandingWork:
    """What OpenClaw does by itself: channels, heartbeats or jobs.

    Raises GatewayUnavailable, RpcRefused.
    """
    config = await gateway.call("config.get", {})
    channels = untrusted_json.object_at(config, "sourceConfig", "channels")
    for name in CHANNELS:
        section = untrusted_json.object_of(channels.get(name))
        # The local messenger wakes its agent.
        if section.get("enabled") is True and not is_local(section):
            return StandingWork(f"{name} is connected")
    health = await gateway.call("health", {})
    for agent in untrusted_json.objects_of(health.get("agents")):
        if untrusted_json.object_of(agent.get("heartbeat")).get("enabled"):
            return StandingWork("it has a heartbeat")
    jobs = await list_jobs(gateway)
    if any(
        each.is_enabled and each.is_watching and each.kind is JobKind.USER for each in jobs.values()
    ):
        return StandingWork("it has a job that waits for a program")
    return StandingWork(None, [*jobs.values()])


def has_foreign_process(commands: Iterable[str]) -> bool:
    """Whether a sandbox runs programs besides OpenClaw's; its first process is the container's.

    A file program that waits for the next call is none of them.
    """
    _, *others = commands
    own = (GATEWAY_PROCESS, OPENCLAW_PROGRAMS, DEFUNCT, FILE_PROGRAM)
    return not all(any(name in each for name in own) for each in others)
