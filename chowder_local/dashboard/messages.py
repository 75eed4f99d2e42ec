"""What an instance says without being asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import dashboard, instance_page
from chowder_local.dashboard.streams import follow_instance
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


EVENTS = {EventType.MESSAGE_SENT, EventType.WEBHOOK_RECEIVED}


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    # Read before the lists: an event in between is then sent twice rather than never.
    last_event = services(request).events.last_id
    found = [each.beside_messages for each in dashboard(request).parts]
    return await instance_page(
        request,
        "unasked.html",
        instance,
        tab="/unasked",
        messages=await services(request).messages.latest(instance.id),
        beside=[await each(request, instance) for each in found if each is not None],
        last_event=last_event,
    )


async def follow(request: Request) -> Response:
    """Tells the page when to reload its lists."""
    return await follow_instance(request, EVENTS)
