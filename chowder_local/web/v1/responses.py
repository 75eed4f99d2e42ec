"""Handlers: messages to an agent in the OpenAI Responses format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.web.bodies import parse
from chowder_local.web.payloads.responses import Message
from chowder_local.web.sessions import session_of
from chowder_local.web.state import instance, services
from chowder_local.web.streams import CLIENT_CLOSED_REQUEST, event_stream, while_connected

if TYPE_CHECKING:
    from starlette.requests import Request


async def respond(request: Request) -> Response:
    """Sends a message to the agent's main conversation, or to the one that the path names."""
    agent = instance(request)
    asked = (await parse(request, Message)).model_dump(exclude_unset=True)
    session = session_of(request)
    conversations = services(request).conversations
    if asked.get("stream"):
        events = conversations.stream(agent, asked, session)
        stopping = services(request).stopping
        return event_stream(events, stopping=stopping, ends_itself=True)
    answer = await while_connected(request, lambda: conversations.respond(agent, asked, session))
    if answer is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    try:
        return JSONResponse(answer)
    except UnicodeEncodeError:
        # Half of a character that takes two: a model may stop in the middle of one.
        return Response(json.dumps(answer), media_type="application/json")
