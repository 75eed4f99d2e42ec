"""An instance's scheduled jobs: when they are due, and what their runs have said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import agent_part, instance_page, notice, parse_form, part, parts
from chowder_local.dashboard.streams import follow_instance
from chowder_local.http.services import instance_of, running_instance_of, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

MACROS = "_schedule.html"
EVENTS = {EventType.JOB_DUE, EventType.JOB_BEGAN, EventType.JOB_ENDED, EventType.JOB_MISSED}
MAX_RUNS = 30


class SwitchForm(BaseModel):
    is_enabled: bool


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    last_event = services(request).events.last_id
    return await instance_page(
        request, "schedule.html", instance, tab="/schedule", last_event=last_event
    )


async def index(request: Request) -> Response:
    async def render(instance: Instance) -> Response:
        return parts(await _tables(request, instance))

    return await agent_part(request, "/schedule/list", render)


async def follow(request: Request) -> Response:
    """Tells the page when to reload its list."""
    return await follow_instance(request, EVENTS)


async def run(request: Request) -> Response:
    instance = await running_instance_of(request)
    await services(request).jobs.run(instance, request.path_params["job_id"])
    tables = await _tables(request, instance, oob=True)
    return notice(request, "The run has begun, past the schedule.", tables)


async def switch(request: Request) -> Response:
    """Switches a job on or off."""
    instance = await running_instance_of(request)
    sent = await parse_form(request, SwitchForm)
    job = await services(request).jobs.change(
        instance, request.path_params["job_id"], {"is_enabled": sent.is_enabled}, {}
    )
    tables = await _tables(request, instance, oob=True)
    return notice(request, f"{job.name} is {'on' if job.is_enabled else 'off'}.", tables)


async def _tables(request: Request, instance: Instance, *, oob: bool = False) -> Markup:
    jobs, runs = await services(request).jobs.overview(instance, MAX_RUNS)
    names = {each.id: each.name for each in jobs}
    return part(request, MACROS, "tables", instance, jobs, runs, names, oob=oob)
