"""OpenClaw's scheduler, whose jobs are listed in pages, and which looks at the clock when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.openclaw.jobs import read_jobs, read_runs

if TYPE_CHECKING:
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.jobs import Job, JobRun

_PAGE = 200
"""The most jobs or runs that OpenClaw lists at once."""
_PLACEHOLDER = {
    "name": "clock",
    "enabled": False,
    "schedule": {"kind": "every", "everyMs": 31_536_000_000},
    "sessionTarget": "isolated",
    "wakeMode": "now",
    "delivery": {"mode": "none"},
    "payload": {"kind": "agentTurn", "message": "none"},
}


async def list_jobs(gateway: Gateway) -> dict[str, Job]:
    """All jobs by id. Raises GatewayUnavailable, RpcRefused."""
    wanted = {"includeDisabled": True, "includeDeliveryPreviews": False, "limit": _PAGE}
    jobs: dict[str, Job] = {}
    while True:
        answer = await gateway.call("cron.list", {**wanted, "offset": len(jobs)})
        page = {each.id: each for each in read_jobs(answer)}
        # A page without news would be listed again and again.
        has_news = not page.keys() <= jobs.keys()
        jobs |= page
        if not (has_news and answer.get("hasMore")):
            return jobs


async def list_runs(gateway: Gateway, count: int) -> list[JobRun]:
    """The latest runs, latest first. Raises GatewayUnavailable, RpcRefused."""
    wanted = {"scope": "all", "limit": min(count, _PAGE)}
    return read_runs(await gateway.call("cron.runs", wanted))


async def rearm(gateway: Gateway) -> None:
    """Has OpenClaw's scheduler look at the clock, which it does whenever jobs change.

    Raises GatewayUnavailable, RpcRefused.
    """
    added = await gateway.call("cron.add", _PLACEHOLDER)
    await gateway.call("cron.remove", {"id": added.get("id")})
