"""Handlers: messages to an agent in the OpenAI Responses format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from chowder_local.web.bodies import parse
from chowder_local.web.payloads.responses import Message
from chowder_local.web.state import instance, services
from chowder_local.web.streams import CLIENT_CLOSED_REQUEST, event_stream, while_connected

if TYPE_CHECKING:
    from starlette.requests import Request


async def respond(request: Request) -> Response:
    """Sends a message to the agent's main conversation, or to the one that the path names."""
    agent = instance(request)
    asked = (await parse(request, Message)).model_dump(exclude_unset=True)
    session = request.path_params.get("session_id")
    conversations = services(request).conversations
    if asked.get("stream"):
        return await event_stream(request, conversations.stream(agent, asked, session))
    answer = await while_connected(request, lambda: conversations.respond(agent, asked, session))
    if answer is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(answer)
