"""Handlers: what an agent is doing, waiting for its end, and ending it; and changes of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from chowder_local.api.handlers.responses import session_of
from chowder_local.api.schemas.activity import (
    ActivityView,
    CancelledView,
    CompactionView,
    IdleWait,
    SessionRewind,
)
from chowder_local.http.bodies import parse
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, json_in_thread, while_connected
from chowder_local.http.services import instance_of, running_instance_of, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.api.schemas.activity import FindName
    from chowder_local.core.domain import Instance
    from chowder_local.instances.conversations.activity import Activity


async def get_activity(request: Request) -> Response:
    """What the agent is doing: its turns and tasks in progress, each with what it does and since
    when. A hibernated or stopped agent is idle, and stays where it is.
    """
    agent = await instance_of(request)
    return await _view(request, agent, await services(request).activities.current(agent))


async def wait_for_instance(request: Request) -> Response:
    """Waits until the agent is idle: no turn, no task, and no report of a sub-agent still to come.

    Answers after `timeout_s` in any case; `status` says whether it is idle.
    """
    agent = await instance_of(request)
    body = await parse(request, IdleWait)
    activity = await while_connected(
        request,
        lambda: services(request).activities.wait_until_idle(agent.id, body.timeout_s),
    )
    if activity is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return await _view(request, agent, activity)


async def cancel_activity(request: Request) -> CancelledView:
    """Ends all that the agent is doing. A message in progress gets a 409 with the code
    `turn_cancelled`; the agent keeps what it has done.
    """
    agent = await instance_of(request)
    return CancelledView(cancelled=await services(request).activities.cancel(agent))


async def cancel_activity_item(request: Request) -> CancelledView:
    """Ends one turn or task of the agent, with the sub-agents that it has begun."""
    agent = await instance_of(request)
    item_id = request.path_params["item_id"]
    return CancelledView(cancelled=await services(request).activities.cancel(agent, item_id))


async def reset_session(request: Request) -> None:
    """Ends what runs in the session, and makes the agent forget the conversation.

    The transcript still has it.
    """
    agent = await running_instance_of(request)
    await services(request).session_control.reset(agent, session_of(request))


async def rewind_session(request: Request) -> None:
    """Ends what runs in the session, and sets the conversation back to before a user's message.

    The agent forgets the message and all after it; its files stay as they are.
    """
    agent = await running_instance_of(request)
    body = await parse(request, SessionRewind)
    await services(request).session_control.rewind(agent, session_of(request), body.position)


async def compact_session(request: Request) -> CompactionView:
    """Has the model summarize the session's older messages, as OpenClaw does when a conversation
    gets too long. That takes model calls, and as long as they do.
    """
    agent = await running_instance_of(request)
    compaction = await services(request).session_control.compact(agent, session_of(request))
    return CompactionView(is_compacted=compaction.is_compacted, reason=compaction.reason)


async def abort_session(request: Request) -> CancelledView:
    """Ends the turns of the session, and drops its messages that wait. The conversation stays."""
    agent = await running_instance_of(request)
    cancelled = await services(request).session_control.abort(agent, session_of(request))
    return CancelledView(cancelled=cancelled)


async def delete_session(request: Request) -> None:
    """Ends what runs in the session, and removes it with its transcript. The main session cannot be
    deleted: reset it.
    """
    agent = await running_instance_of(request)
    await services(request).session_control.delete(agent, session_of(request))


async def _view(request: Request, agent: Instance, activity: Activity) -> Response:
    find_name = name_finder(request, agent)
    # Model calls may be long.
    return await json_in_thread(lambda: ActivityView.from_activity(activity, find_name))


def name_finder(request: Request, agent: Instance) -> FindName:
    """Finds the names of an agent's sessions by OpenClaw's keys."""
    names = services(request).session_names

    def find(key: str | None) -> str | None:
        found = None if key is None else names.find(agent.id, key)
        return None if found is None else found.name

    return find
