"""OpenClaw's scheduler: its jobs, when they are due, and their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json

if TYPE_CHECKING:
    from chowder_local.openclaw.gateway import Gateway

_ALL = 200
"""The most jobs that OpenClaw lists at once."""
_PLACEHOLDER = {
    "name": "clock",
    "enabled": False,
    "schedule": {"kind": "every", "everyMs": 31_536_000_000},
    "sessionTarget": "isolated",
    "wakeMode": "now",
    "delivery": {"mode": "none"},
    "payload": {"kind": "agentTurn", "message": "none"},
}


async def read_jobs(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """All jobs by id, as OpenClaw lists them. Raises GatewayUnavailable, RpcRefused."""
    wanted = {"includeDisabled": True, "includeDeliveryPreviews": False, "limit": _ALL}
    jobs: dict[str, dict[str, Any]] = {}
    while True:
        page = await gateway.call("cron.list", {**wanted, "offset": len(jobs)})
        listed = untrusted_json.objects_of(page.get("jobs"))
        jobs |= {str(each.get("id")): each for each in listed}
        if not (listed and page.get("hasMore")):
            return jobs


async def read_runs(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """The latest runs of jobs, as OpenClaw lists them. Raises GatewayUnavailable, RpcRefused."""
    listed = await gateway.call("cron.runs", {"scope": "all", "limit": min(count, _ALL)})
    return untrusted_json.objects_of(listed.get("entries"))


def state_of(job: dict[str, Any], name: str) -> int | None:
    """A time in a job's state, such as `nextRunAtMs`, by the agent's clock; None if it has none."""
    at = untrusted_json.object_of(job.get("state")).get(name)
    return int(at) if isinstance(at, int | float) else None


def is_own(job: dict[str, Any]) -> bool:
    """Whether a job is not one of those that OpenClaw gives every agent."""
    return not job.get("declarationKey")


async def rearm(gateway: Gateway) -> None:
    """Has OpenClaw's scheduler look at the clock, which it does whenever jobs change.

    Raises GatewayUnavailable, RpcRefused.
    """
    added = await gateway.call("cron.add", _PLACEHOLDER)
    await gateway.call("cron.remove", {"id": added.get("id")})
