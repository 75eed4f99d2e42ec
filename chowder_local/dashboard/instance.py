"""Handlers: one instance, what was said to it, and saying something to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.responses import Message
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.chat_stream import Answer, ChatStream, Failed, ToolCalled, Whole
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.instance_rows import rows
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard, fragment
from chowder_local.dashboard.snippets import MODELS, model_of
from chowder_local.dashboard.streams import MEDIA_TYPE
from chowder_local.dashboard.tabs import instance_page
from chowder_local.dashboard.transcript_rows import SHOWN_MAX, build_rows
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.services import caller, instance_of, services
from chowder_local.http.streams import EVENT_STREAM
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.chat_stream import Heard
    from chowder_local.dashboard.rendering import Rendering
    from chowder_local.instances.conversations.transcripts import Session
    from chowder_local.openclaw.transcripts.reader import Transcript

TURNS = 60
"""So many messages of a conversation are shown at first, and each time that more are asked for."""


class Looked(BaseModel):
    """Which conversation is looked at, by OpenClaw's key of it, and from where on."""

    key: str = Field(MAIN_KEY, min_length=1, max_length=8192)
    before: int | None = Field(None, ge=0, le=(1 << 53) - 1)


class Typed(BaseModel):
    """What was typed; without a session it is for the main conversation."""

    text: str = Field(min_length=1)
    model: str = Field(min_length=1, max_length=200)
    session: str | None = Field(None, max_length=512)


async def show(request: Request) -> Response:
    """The instance; its conversation is a part that comes once the agent has been asked for it."""
    instance = await instance_of(request)
    looked = parse_query(request, Looked)
    return await instance_page(request, "instance.html", instance, tab="", looked=looked)


async def conversation(request: Request) -> Response:
    """A conversation, and which others there are; older messages are a part that htmx takes out."""
    instance = await instance_of(request)
    looked = parse_query(request, Looked)
    sessions, transcript, problem = await _read(request, instance, looked)
    named = next((each for each in sessions if each.key == looked.key), None)
    (row,) = await rows(request, [instance])
    return fragment(
        request,
        "conversation.html",
        it=instance,
        row=row,
        looked=looked,
        sessions=sessions,
        session=named.name if named else None,
        can_talk=named is None or named.is_main or named.name is not None,
        transcript=transcript,
        turns=await build_rows(transcript.turns) if transcript else [],
        problem=problem,
        model=_model(request, instance),
        models=sorted(MODELS.values()),
    )


async def say(request: Request) -> Response:
    """Takes a message; its answer is what the part that is put in place listens to."""
    instance = await instance_of(request)
    typed = validated(Typed, await form(request), "body")
    asked = validated(
        Message, {"model": typed.model, "input": typed.text, "stream": True}, "body"
    ).model_dump(exclude_unset=True)
    # What is wrong with it is told at once.
    await services(request).conversations.check(instance, asked)
    chat_stream = ChatStream(instance, typed.session, session_key(typed.session), asked)
    token = dashboard(request).chat_streams.add(chat_stream)
    return fragment(request, "said.html", it=instance, text=typed.text, token=token)


async def listen(request: Request) -> Response:
    """The answer as it comes: words, the tools that are called, why it failed."""
    instance = await instance_of(request)
    token = request.path_params["token"]
    chat_stream = dashboard(request).chat_streams.take(token) if request.method == "GET" else None
    if chat_stream is None or chat_stream.instance.id != instance.id:
        # To a browser's stream that says not to ask again.
        return Response(status_code=204, headers=HEADERS)
    encode = partial(_encoded, dashboard(request).rendering)
    return Answer(
        chat_stream,
        services(request),
        encode,
        media_type=MEDIA_TYPE,
        headers=HEADERS | EVENT_STREAM,
    )


def _encoded(rendering: Rendering, heard: Heard) -> bytes:
    name = "piece"
    if isinstance(heard, ToolCalled):
        name = "tool"
    elif isinstance(heard, Failed):
        name = "failed"
    elif isinstance(heard, Whole):
        name = "whole"
    # A piece is text, and whatever it says of HTML is shown, not done.
    html = rendering.html("heard.html", it=heard, kind=name)
    lines = [f"data: {line}" for line in html.split("\n")]
    return "\n".join([f"event: {name}", *lines, "", ""]).encode()


async def _read(
    request: Request, instance: Instance, looked: Looked
) -> tuple[list[Session], Transcript | None, str | None]:
    """What can be read of its conversations, or why nothing can."""
    try:
        sessions, transcript = await services(request).reading.both(
            instance, looked.key, limit=TURNS, before=looked.before, text_max=SHOWN_MAX
        )
    except ChowderError as problem:
        return [], None, str(problem)
    return sessions, transcript, None


def _model(request: Request, instance: Instance) -> str:
    """The model that was asked last, or one to begin with."""
    last = services(request).exchanges.latest().get(instance.id)
    if last is not None and last.organization_id == caller(request).organization_id and last.model:
        return last.model
    return model_of(ModelProvider(instance.model_provider))
