"""What an instance says without being asked, and the webhooks that it sends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import instance_page, notice
from chowder_local.dashboard.snapshots import StreamQuery
from chowder_local.dashboard.streams import LiveStream, PageEvent, watch_events
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.dashboard.streams import Marks

CHANGED = "changed"
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
    instance = await instance_of(request)
    query = parse_query(request, StreamQuery)

    async def watch(marks: Marks) -> None:
        notify = partial(marks.add, CHANGED)
        await watch_events(request, EVENTS, notify, instance_id=instance.id, after=query.after)

    async def render(_: frozenset[Hashable]) -> PageEvent:
        return PageEvent(name=CHANGED)

    return LiveStream(request, [watch], render)


async def clear(request: Request) -> Response:
    """Removes the webhooks of the inbox."""
    instance = await instance_of(request)
    await services(request).inbox_entries.remove(instance.id)
    return notice(request, "The inbox is empty.", '<ul id="webhooks" hx-swap-oob="true"></ul>')
