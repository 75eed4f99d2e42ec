"""OpenClaw's scheduler, whose jobs are listed in pages, and which looks at the clock when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import RpcRefused
from chowder_local.core.untrusted_json import object_at, objects_of, text_of
from chowder_local.openclaw.jobs import (
    PLACEHOLDER,
    is_not_found,
    is_placeholder,
    read_job,
    read_runs,
)

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.jobs import Job, JobRun

_PAGE = 200
"""The most jobs that OpenClaw lists at once."""
_PAGE_OF_RUNS = 20
"""Few runs are news."""


async def list_jobs(gateway: Gateway) -> dict[str, Job]:
    """All jobs by id. Removes what a `rearm` that was cut off has left.

    Raises GatewayUnavailable, RpcRefused.
    """
    wanted = {"includeDisabled": True, "includeDeliveryPreviews": False, "limit": _PAGE}
    listed: dict[str, dict[str, Any]] = {}
    while True:
        answer = await gateway.call("cron.list", {**wanted, "offset": len(listed)})
        page = {text_of(each.get("id")): each for each in objects_of(answer.get("jobs"))}
        # A page without news would be listed again and again.
        has_news = not page.keys() <= listed.keys()
        listed |= page
        if not (has_news and answer.get("hasMore")):
            break
    for job_id, raw in listed.items():
        if is_placeholder(raw):
            await _remove_placeholder(gateway, job_id)
    return {key: read_job(raw) for key, raw in listed.items() if not is_placeholder(raw)}


async def list_runs(gateway: Gateway, since: datetime) -> list[JobRun]:
    """The runs that have ended since a time, latest first.

    Raises GatewayUnavailable, RpcRefused.
    """
    runs: list[JobRun] = []
    offset = 0
    while True:
        wanted = {"scope": "all", "limit": _PAGE_OF_RUNS, "offset": offset}
        answer = await gateway.call("cron.runs", wanted)
        page = read_runs(answer)
        runs += (each for each in page if each.ended_at >= since)
        offset += _PAGE_OF_RUNS
        if not (page and page[-1].ended_at >= since and answer.get("hasMore")):
            return runs


async def rearm(gateway: Gateway) -> None:
    """Has OpenClaw's scheduler look at the clock, which it does whenever jobs change.

    Raises GatewayUnavailable, RpcRefused.
    """
    added = await gateway.call("cron.add", PLACEHOLDER)
    # OpenClaw answers for a job with a key whether it was there already.
    await _remove_placeholder(gateway, text_of(object_at(added, "job").get("id")))


async def _remove_placeholder(gateway: Gateway, job_id: str) -> None:
    try:
        await gateway.call("cron.remove", {"id": job_id})
    except RpcRefused as refused:
        # Another call may have found and removed it.
        if not is_not_found(refused):
            raise
