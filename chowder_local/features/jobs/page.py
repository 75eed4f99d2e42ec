"""Jobs on the dashboard: when they are due, and what their runs have said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import (
    PageParts,
    agent_part,
    instance_page,
    notice,
    parse_form,
    part,
    parts,
)
from chowder_local.dashboard.routes import INSTANCE, Page
from chowder_local.dashboard.streams import follow_instance
from chowder_local.features.jobs.service import Jobs
from chowder_local.http.services import instance_of, running_instance_of, service, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

TAB = "/schedule"
MACROS = "jobs.html"
EVENTS = {EventType.JOB_DUE, EventType.JOB_BEGAN, EventType.JOB_ENDED, EventType.JOB_MISSED}
MAX_RUNS = 30


class SwitchForm(BaseModel):
    is_enabled: bool


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    last_event = services(request).events.last_id
    return await instance_page(request, "schedule.html", instance, tab=TAB, last_event=last_event)


async def index(request: Request) -> Response:
    async def render(instance: Instance) -> Response:
        return parts(await _tables(request, instance))

    return await agent_part(request, f"{TAB}/list", render)


async def follow(request: Request) -> Response:
    """Tells the page when to reload its list."""
    return await follow_instance(request, EVENTS)


async def run(request: Request) -> Response:
    instance = await running_instance_of(request)
    await service(request, Jobs).run(instance, request.path_params["job_id"])
    tables = await _tables(request, instance, oob=True)
    return notice(request, "The run has begun, past the schedule.", tables)


async def switch(request: Request) -> Response:
    """Switches a job on or off."""
    instance = await running_instance_of(request)
    sent = await parse_form(request, SwitchForm)
    job = await service(request, Jobs).change(
        instance, request.path_params["job_id"], {"is_enabled": sent.is_enabled}, {}
    )
    tables = await _tables(request, instance, oob=True)
    return notice(request, f"{job.name} is {'on' if job.is_enabled else 'off'}.", tables)


async def _tables(request: Request, instance: Instance, *, oob: bool = False) -> Markup:
    jobs, runs = await service(request, Jobs).overview(instance, MAX_RUNS)
    names = {each.id: each.name for each in jobs}
    return part(request, MACROS, "tables", instance, jobs, runs, names, oob=oob)


PAGES = (
    Page("GET", f"{INSTANCE}{TAB}", show),
    Page("GET", f"{INSTANCE}{TAB}/list", index),
    Page("GET", f"{INSTANCE}{TAB}/live", follow),
    Page("POST", f"{INSTANCE}{TAB}/{{job_id}}/run", run),
    Page("POST", f"{INSTANCE}{TAB}/{{job_id}}/switch", switch),
)
PARTS = PageParts(tab=(TAB, "Schedule"))
