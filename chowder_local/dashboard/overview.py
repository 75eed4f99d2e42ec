"""Handlers: the first page, with all instances of the organization, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from chowder_local.core.domain import InstanceStatus, ModelProvider
from chowder_local.dashboard.instance_rows import STAGES, Row, rows
from chowder_local.dashboard.services import dashboard, fragment, page
from chowder_local.dashboard.snippets import snippets
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

PORTION = 50
"""So many lines are shown at first, and each time that more are asked for."""
LIVING = tuple(each for each in InstanceStatus if each is not InstanceStatus.TERMINATED)


class Wanted(BaseModel):
    """What the list is to show."""

    q: str = Field("", max_length=128)
    status: InstanceStatus | None = None
    after: str | None = None

    def address(self, path: str = "/", **more: str | None) -> str:
        """The page, or another address, with these and other wishes in its query."""
        wishes: dict[str, str | None] = {"q": self.q, "status": self.status} | more
        query = urlencode({name: value for name, value in wishes.items() if value})
        return f"{path}?{query}" if query else path

    def shows(self, instance: Instance) -> bool:
        """Whether it is of the list, as the store would say it."""
        if instance.status is InstanceStatus.TERMINATED or self.status not in {
            None,
            instance.status,
        }:
            return False
        return self.q.lower() in instance.name.lower() or instance.id.startswith(self.q)


@dataclass(frozen=True)
class Counts:
    """How many there are, in all and by status."""

    by_status: dict[InstanceStatus, int]

    @property
    def total(self) -> int:
        """All that are not terminated."""
        return sum(self.by_status[each] for each in LIVING)


async def show(request: Request) -> Response:
    """The page; a search, and more lines, are parts of it that htmx takes out."""
    wanted = _wanted(request)
    known = services(request)
    organization_id = caller(request).organization_id
    # Before the list is read: what happens in between is told twice rather than never.
    last_event = known.events.last_id
    found = await known.directory.search(
        organization_id,
        text=wanted.q,
        status=wanted.status,
        after_id=wanted.after,
        limit=PORTION + 1,
    )
    shown = await rows(request, found[:PORTION])
    return await page(
        request,
        "overview.html",
        here="/",
        wanted=wanted,
        rows=shown,
        more=wanted.address(after=shown[-1].instance.id) if len(found) > PORTION else None,
        live=wanted.address("/live", after=last_event),
        counts=await counts(request),
        statuses=LIVING,
        stages=STAGES,
        providers=list(ModelProvider),
        base_url=dashboard(request).base_url,
        env_command=dashboard(request).env_command,
        snippets=snippets(_first_running(shown)),
    )


async def health(request: Request) -> Response:
    """What `doctor` would say now, with its cures."""
    report, findings = await dashboard(request).server_diagnosis.report()
    return fragment(request, "health.html", report=report, findings=findings)


async def counts(request: Request) -> Counts:
    """How many instances the organization has."""
    return Counts(await services(request).directory.counts(caller(request).organization_id))


def _wanted(request: Request) -> Wanted:
    return parse_query(request, Wanted)


def _first_running(shown: list[Row]) -> Instance | None:
    return next((row.instance for row in shown if row.can_stop), None)
