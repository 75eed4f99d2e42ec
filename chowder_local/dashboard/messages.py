"""What an instance says without being asked, and the webhooks that it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import instance_page, notice
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
    inbox = services(request).inbox
    return await instance_page(
        request,
        "unasked.html",
        instance,
        tab="/unasked",
        messages=await services(request).messages.latest(instance.id),
        webhooks=await services(request).inbox_entries.latest(instance.id),
        url=inbox.address(services(request).relay_url, instance.id),
        last_event=last_event,
    )


async def follow(request: Request) -> Response:
    """Tells the page when to reload its lists."""
    return await follow_instance(request, EVENTS)


async def clear(request: Request) -> Response:
    """Removes the webhooks of the inbox."""
    instance = await instance_of(request)
    await services(request).inbox_entries.remove(instance.id)
    return notice(request, "The inbox is empty.", '<ul id="webhooks" hx-swap-oob="true"></ul>')
