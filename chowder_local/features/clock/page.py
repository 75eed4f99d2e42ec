"""Clocks on the dashboard: a button on an agent's pages that moves its clock on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.dashboard.instances import changed
from chowder_local.dashboard.pages import PageParts, part
from chowder_local.dashboard.routes import INSTANCE, Page
from chowder_local.features.clock.service import Clocks
from chowder_local.http.services import instance_of, service

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance


def advance_button(request: Request, instance: Instance) -> Markup:
    """What moves the clock of an agent that runs on to its next job."""
    return part(request, "clock.html", "advance_button", instance)


async def advance_clock(request: Request) -> Response:
    """Moves the agent's clock on to the next time at which a job is due."""
    instance = await instance_of(request)
    advance = await service(request, Clocks).advance(instance, None)
    names = ", ".join(each.job for each in advance.runs)
    text = f"{names} has run." if names else f"No job of {instance.name} is due."
    return await changed(request, text, advance.instance)


PAGES = (Page("POST", f"{INSTANCE}/clock/advance", advance_clock),)
PARTS = PageParts(instance_button=advance_button)
