"""Handlers: messages to an agent in the OpenAI Responses format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from starlette.responses import Response

from chowder_local.api.schemas.responses import Message, ModelsView, ModelView
from chowder_local.core.domain import MAIN_SESSION
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.long_values import off_loop
from chowder_local.http.bodies import parse
from chowder_local.http.responses import (
    CLIENT_CLOSED_REQUEST,
    EVENT_STREAM,
    event_stream,
    while_connected,
    with_comments,
)
from chowder_local.http.services import instance, services
from chowder_local.instances.conversations.idempotency import EVENTS, JSON, request_digest
from chowder_local.openclaw.responses.events import failure_end
from chowder_local.openclaw.session_keys import session_key
from chowder_local.relay.wire.wire_format import HELD

if TYPE_CHECKING:
    from starlette.requests import Request

IDEMPOTENCY_KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"


async def create_response(request: Request) -> Response:
    """Sends a message to the agent's main session, or to the session that the path names.

    With an `Idempotency-Key`, the same message gets the same answer for 24 hours, and the agent
    gets it once.
    """
    agent = instance(request)
    message = (await parse(request, Message)).model_dump(exclude_unset=True)
    session = session_of(request)
    raw_key = request.headers.get(IDEMPOTENCY_KEY_HEADER)
    digest = "" if raw_key is None else await off_loop(request_digest, message)
    attempt = (agent.id, session_key(session), raw_key or "", digest)
    idempotency, conversations = services(request).idempotency, services(request).conversations
    if raw_key is not None and (kept := await idempotency.get(*attempt)) is not None:
        headers = {REPLAYED_HEADER: "true"}
        if kept.media_type == EVENTS:
            headers |= EVENT_STREAM
        return Response(kept.body, media_type=kept.media_type, headers=headers)
    if message.get("stream"):
        events = conversations.stream(agent, message, session)
        hooks, call_log = services(request).feature_hooks, services(request).call_log
        if any(may_hold(agent.id) for may_hold in hooks.may_hold):
            events = with_comments(
                events, lambda: HELD if call_log.has_held(agent.id) else b"", failure_end
            )
        if raw_key is not None:
            events = idempotency.stream(*attempt, events)
        return event_stream(events, shutdown=services(request).shutdown, ends_itself=True)

    async def ask() -> bytes | None:
        answer = await while_connected(
            request, lambda: conversations.respond(agent, message, session)
        )
        return None if answer is None else _rendered(answer)

    body = await (ask() if raw_key is None else idempotency.answer(*attempt, ask))
    if body is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(body, media_type=JSON)


async def list_models(request: Request) -> ModelsView:
    """Models that messages can name: the usual ones of each provider that the organization has a
    key for, and those that named providers list. Other models of these providers work, too.
    """
    available = await services(request).conversations.models(instance(request))
    return ModelsView(data=[ModelView(id=model, owned_by=owner) for model, owner in available])


def session_of(request: Request) -> str | None:
    """The name of the path's session; None for the main one. Raises InputInvalid if not UTF-8."""
    name: str | None = request.path_params.get("session_id")
    if name is not None and "\ufffd" in name:
        # It replaces bytes that are not UTF-8, so that different names would share a session.
        try:
            unquote_to_bytes(request.scope["raw_path"]).decode()
        except UnicodeDecodeError:
            msg = "Input should be UTF-8, percent-encoded"
            problem = {"loc": ["path", "session_id"], "msg": msg, "type": "string_unicode"}
            raise InputInvalid([problem]) from None
    return None if name == MAIN_SESSION else name


def _rendered(answer: dict[str, Any]) -> bytes:
    try:
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # A lone surrogate: a model may stop in the middle of a pair.
        return json.dumps(answer).encode()
