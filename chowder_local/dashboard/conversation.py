"""An instance's conversations: their messages, in parts that a page can hold, and new messages."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.responses import Message
from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import TurnNotFound
from chowder_local.dashboard.chat_stream import Answer, ChatEvent, ChatStream
from chowder_local.dashboard.forms import parse_form
from chowder_local.dashboard.pages import fragment, instance_page, part, parts
from chowder_local.dashboard.rendering import HEADERS, render_markdown
from chowder_local.dashboard.services import dashboard
from chowder_local.dashboard.snippets import MODELS, model_of
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.responses import attachment
from chowder_local.http.services import caller, instance_of, services
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.openclaw.transcripts.reader import TEXT_MAX, TEXT_MOST
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.instances.conversations.transcripts import Session
    from chowder_local.openclaw.transcripts.reader import Transcript
    from chowder_local.openclaw.transcripts.turns import Turn

MACROS = "_messages.html"
PORTION = 60
"""So many messages are shown at first, and each time that more are asked for."""
SHOWN_MAX_CHARS = 4_000
"""So many characters of a text are shown at first."""


class ConversationQuery(BaseModel):
    key: str = Field(MAIN_KEY, min_length=1, max_length=8192)
    """OpenClaw's key of the conversation."""
    before: int | None = Field(None, ge=0, le=(1 << 53) - 1)


class TurnQuery(BaseModel):
    key: str = Field(MAIN_KEY, min_length=1, max_length=8192)
    nth: int = Field(0, ge=0, le=1000)
    """Its index among the turns of its message."""


class Typed(BaseModel):
    """A typed message; without a session it is for the main conversation."""

    text: str = Field(min_length=1)
    model: str = Field(min_length=1, max_length=200)
    session: str | None = Field(None, max_length=512)


@dataclass(frozen=True)
class TurnRow:
    """A turn with the beginning of its text; `characters` is the length of the whole text."""

    turn: Turn
    nth: int
    text: str
    characters: int
    is_cut: bool
    html: str | None
    """An agent's rendered text; None for what is shown as plain text."""

    @property
    def fits_page(self) -> bool:
        """Whether the whole text can be shown on a page."""
        return self.characters <= TEXT_MAX and not (self.turn.is_cut and not self.text)


async def show(request: Request) -> Response:
    """The page; the conversation is a part that it asks the agent for."""
    instance = await instance_of(request)
    wanted = parse_query(request, ConversationQuery)
    return await instance_page(request, "talk.html", instance, tab="", wanted=wanted)


async def show_conversation(request: Request) -> Response:
    """A conversation and the list of all; older messages are a part that htmx selects."""
    instance = await instance_of(request)
    wanted = parse_query(request, ConversationQuery)
    sessions, transcript, problem = await _read(request, instance, wanted)
    session = next((each for each in sessions if each.key == wanted.key), None)
    return fragment(
        request,
        "_conversation.html",
        it=instance,
        wanted=wanted,
        sessions=sessions,
        session=session.name if session else None,
        can_talk=session is None or session.is_main or session.name is not None,
        transcript=transcript,
        turns=await asyncio.to_thread(_turn_rows, transcript.turns) if transcript else [],
        problem=problem,
        model=_model(request, instance),
        models=sorted(MODELS.values()),
    )


async def send(request: Request) -> Response:
    """Accepts a message; the answered part listens to the answer."""
    instance = await instance_of(request)
    typed = await parse_form(request, Typed)
    message = validated(
        Message, {"model": typed.model, "input": typed.text, "stream": True}, "body"
    ).model_dump(exclude_unset=True)
    # An invalid message is refused at once.
    await services(request).conversations.check(instance, message)
    chat_stream = ChatStream(instance, typed.session, session_key(typed.session), message)
    token = dashboard(request).chat_streams.add(chat_stream)
    return parts(part(request, MACROS, "message", instance, typed.text, token))


async def stream_answer(request: Request) -> Response:
    """The answer as it comes: its text, the tools that are called, and why it failed."""
    instance = await instance_of(request)
    token = request.path_params["token"]
    chat_stream = dashboard(request).chat_streams.take(token) if request.method == "GET" else None
    if chat_stream is None or chat_stream.instance.id != instance.id:
        # A browser's EventSource then does not ask again.
        return Response(status_code=204, headers=HEADERS)

    def encode(event: ChatEvent) -> bytes:
        # A piece is escaped like all text: HTML in it is shown, not executed.
        return sse.encode(part(request, MACROS, "event", event), event.name)

    return Answer(chat_stream, services(request), encode)


async def show_turn(request: Request) -> Response:
    """A whole text, or as much as a page can hold, in the place of its beginning."""
    turn = await _find_turn(request, TEXT_MAX)
    text = _text(turn)[:TEXT_MAX]
    html = await asyncio.to_thread(_html, turn, text)
    return parts(part(request, MACROS, "whole_text", text, html))


async def download_turn(request: Request) -> Response:
    """A whole text as a file."""
    turn = await _find_turn(request, TEXT_MOST)
    body = _text(turn).encode()
    name = f"{turn.role}-{turn.position}.txt"
    return Response(body, headers=HEADERS | attachment(name, len(body)))


async def _read(
    request: Request, instance: Instance, wanted: ConversationQuery
) -> tuple[list[Session], Transcript | None, str | None]:
    """The conversations and the wanted one's messages, or why they cannot be read."""
    try:
        sessions, transcript = await services(request).reading.sessions_and_transcript(
            instance, wanted.key, limit=PORTION, before=wanted.before, text_max=SHOWN_MAX_CHARS
        )
    except ChowderError as problem:
        return [], None, str(problem)
    return sessions, transcript, None


def _model(request: Request, instance: Instance) -> str:
    """The model of the instance's last call, or one of its provider."""
    last = services(request).exchanges.latest().get(instance.id)
    if last is not None and last.organization_id == caller(request).organization_id and last.model:
        return last.model
    return model_of(ModelProvider(instance.model_provider))


def _turn_rows(turns: Sequence[Turn]) -> list[TurnRow]:
    """Takes long if dozens of long texts are rendered."""
    before: Counter[int] = Counter()
    rows = []
    for turn in turns:
        text = _text(turn)
        is_cut = turn.is_cut or len(text) > SHOWN_MAX_CHARS
        beginning = f"{text[:SHOWN_MAX_CHARS]}{'…' if is_cut and text else ''}"
        rows.append(
            TurnRow(
                turn=turn,
                nth=before[turn.position],
                text=text[:SHOWN_MAX_CHARS],
                characters=turn.characters or len(text),
                is_cut=is_cut,
                html=_html(turn, beginning),
            )
        )
        before[turn.position] += 1
    return rows


async def _find_turn(request: Request, text_max: int) -> Turn:
    instance = await instance_of(request)
    wanted = parse_query(request, TurnQuery)
    given = request.path_params["position"]
    # Longer digits are no position, and would take long to parse.
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise TurnNotFound
    position = int(given)
    found = await services(request).reading.transcript(
        instance, wanted.key, limit=1, before=position + 1, text_max=text_max
    )
    own = [each for each in found.turns if each.position == position]
    if wanted.nth >= len(own):
        raise TurnNotFound
    return own[wanted.nth]


def _html(turn: Turn, text: str) -> str | None:
    return render_markdown(text) if turn.role == "assistant" else None


def _text(turn: Turn) -> str:
    if turn.role == "tool_call":
        arguments = turn.arguments
        return "" if arguments is None else json.dumps(arguments, indent=2, ensure_ascii=False)
    return turn.text or ""
