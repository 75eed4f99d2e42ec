"""What an instance is doing now, with buttons that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.api.handlers.activity import name_finder
from chowder_local.api.schemas.activity import ActivityView
from chowder_local.core.events import EventType
from chowder_local.dashboard.pages import instance_page, notice, part, parts
from chowder_local.dashboard.streams import follow_instance
from chowder_local.http.services import instance_of, services

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.domain import Instance

MACROS = "_activity.html"
EVENTS = {
    EventType.INSTANCE_STATUS,
    EventType.TURN_BEGUN,
    EventType.TURN_ENDED,
    EventType.TOOL_BEGUN,
    EventType.TOOL_ENDED,
    EventType.TASK_BEGUN,
    EventType.TASK_ENDED,
    EventType.CALL_HELD,
    EventType.CALL_RELEASED,
}


async def show(request: Request) -> Response:
    instance = await instance_of(request)
    last_event = services(request).events.last_id
    return await instance_page(
        request,
        "activity.html",
        instance,
        tab="/activity",
        tree=await _tree(request, instance),
        last_event=last_event,
    )


async def index(request: Request) -> Response:
    return parts(await _tree(request, await instance_of(request)))


async def follow(request: Request) -> Response:
    """Tells the page when to reload its list."""
    return await follow_instance(request, EVENTS, is_watching=True)


async def cancel(request: Request) -> Response:
    """Ends all that the agent is doing, or the turn or task that the path names."""
    instance = await instance_of(request)
    item_id = request.path_params.get("item_id")
    ended = await services(request).activities.cancel(instance, item_id)
    text = f"Ended: {', '.join(ended)}." if ended else "Nothing was in progress."
    return notice(request, text, await _tree(request, instance, oob=True))


async def _tree(request: Request, instance: Instance, *, oob: bool = False) -> Markup:
    activity = await services(request).activities.current(instance, is_thorough=False)
    view = ActivityView.from_activity(activity, name_finder(request, instance))
    return part(request, MACROS, "tree", instance, view, oob=oob)
