"""An instance's conversations: messages in portions, long texts, and new messages."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.api.schemas.responses import Message
from chowder_local.core.domain import MAIN_SESSION, ModelProvider
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import TurnNotFound
from chowder_local.dashboard.chat_stream import ChatAnswer, ChatEvent, ChatStream
from chowder_local.dashboard.model_calls import MODELS, model_of
from chowder_local.dashboard.pages import (
    dashboard,
    fragment,
    instance_page,
    instance_parts,
    parse_form,
    part,
    parts,
)
from chowder_local.dashboard.rendering import (
    HEADERS,
    render_markdown,
)
from chowder_local.http.bodies import parse_query, validated
from chowder_local.http.responses import attachment
from chowder_local.http.services import caller, instance_of, services
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.openclaw.transcripts.reader import TEXT_LIMIT, TEXT_MAX
from chowder_local.upstream import sse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from chowder_local.core.domain import Instance
    from chowder_local.instances.conversations.sessions import Session
    from chowder_local.openclaw.transcripts.reader import Transcript
    from chowder_local.openclaw.transcripts.turns import TranscriptTurn

log = logging.getLogger(__name__)


MACROS = "_messages.html"
PORTION = 60
"""The number of messages that a page starts with, and that “Older” adds."""
SESSIONS_SHOWN = 200
"""The page lists so many conversations, those used last: an imported agent may have thousands."""
SHOWN_MAX_CHARS = 4_000
"""The page shows this many characters of a text, and a button for the rest."""


class ConversationQuery(BaseModel):
    key: str = Field(MAIN_KEY, min_length=1, max_length=8192)
    """OpenClaw's session key."""
    before: int | None = Field(None, ge=0, le=(1 << 53) - 1)


class TurnQuery(BaseModel):
    key: str = Field(MAIN_KEY, min_length=1, max_length=8192)
    nth: int = Field(0, ge=0, le=1000)
    """The turn's index among the turns of its message."""


class MessageForm(BaseModel):
    """A typed message; without `session` it goes to the main session."""

    text: str = Field(min_length=1)
    model: str = Field(min_length=1, max_length=200)
    session: str | None = Field(None, max_length=512)


@dataclass(frozen=True)
class TurnRow:
    """A turn with the beginning of its text; `characters` is the length of the whole text."""

    turn: TranscriptTurn
    nth: int
    text: str
    characters: int
    is_cut: bool
    html: str | None
    """An agent's rendered text; None if the page shows plain text."""

    @property
    def fits_page(self) -> bool:
        """Whether a page can show the whole text."""
        return self.characters <= TEXT_MAX and not (self.turn.is_cut and not self.text)


async def show(request: Request) -> Response:
    """The page, which then loads the conversation from the agent."""
    instance = await instance_of(request)
    query = parse_query(request, ConversationQuery)
    return await instance_page(
        request,
        "talk.html",
        instance,
        tab="",
        query=query,
        above=instance_parts(request, instance, lambda parts: parts.above_conversation),
    )


async def show_conversation(request: Request) -> Response:
    """A conversation and a list of the last used; htmx selects a part of it for older messages."""
    instance = await instance_of(request)
    query = parse_query(request, ConversationQuery)
    sessions, transcript, problem = await _read(request, instance, query)
    session = next((each for each in sessions if each.key == query.key), None)
    return fragment(
        request,
        "_conversation.html",
        it=instance,
        query=query,
        sessions=sessions[:SESSIONS_SHOWN],
        session_count=len(sessions),
        session=session.name if session else None,
        can_talk=session is None or session.is_main or session.name is not None,
        transcript=transcript,
        turns=await asyncio.to_thread(_turn_rows, transcript.turns) if transcript else [],
        problem=problem,
        spent=await services(request).cost_reports.of_session(
            caller(request).organization_id, instance.id, query.key
        ),
        model=_model(request, instance),
        models=sorted(MODELS.values()),
    )


async def send(request: Request) -> Response:
    """Accepts a message; the returned part opens the stream of the answer."""
    instance = await instance_of(request)
    typed = await parse_form(request, MessageForm)
    message = validated(
        Message, {"model": typed.model, "input": typed.text, "stream": True}, "body"
    ).model_dump(exclude_unset=True)
    # Refuses an invalid message at once.
    await services(request).conversations.check(instance, message)
    session = None if typed.session == MAIN_SESSION else typed.session
    chat_stream = ChatStream(instance, session, session_key(session), message)
    token = dashboard(request).chat_streams.add(chat_stream)
    return parts(part(request, MACROS, "message", instance, typed.text, token))


async def stream_answer(request: Request) -> Response:
    """Streams the answer: its text, the called tools, and the error if it fails."""
    instance = await instance_of(request)
    token = request.path_params["token"]
    chat_stream = dashboard(request).chat_streams.take(token) if request.method == "GET" else None
    if chat_stream is None or chat_stream.instance.id != instance.id:
        # After 204, a browser's EventSource does not reconnect.
        return Response(status_code=204, headers=HEADERS)

    def encode(event: ChatEvent) -> bytes:
        # The template escapes each piece: HTML in it is shown, not executed.
        return sse.encode(part(request, MACROS, "event", event), event.name, errors="replace")

    return ChatAnswer(chat_stream, services(request), encode)


async def show_turn(request: Request) -> Response:
    """A whole text, or as much as a page can hold, which replaces its beginning."""
    turn = await _find_turn(request, TEXT_MAX)
    text = _text(turn)[:TEXT_MAX]
    html = await asyncio.to_thread(_html, turn, text)
    return parts(part(request, MACROS, "whole_text", text, html))


async def download_turn(request: Request) -> Response:
    """A whole text as a file."""
    turn = await _find_turn(request, TEXT_LIMIT)
    body = _text(turn).encode()
    name = f"{turn.role}-{turn.position}.txt"
    return Response(body, headers=HEADERS | attachment(name, len(body)))


async def _read(
    request: Request, instance: Instance, query: ConversationQuery
) -> tuple[list[Session], Transcript | None, str | None]:
    """All sessions and the messages of one, or the error that prevents reading them."""
    try:
        sessions, transcript = await services(request).conversation_reader.sessions_and_transcript(
            instance, query.key, limit=PORTION, before=query.before, text_max=SHOWN_MAX_CHARS
        )
    except ChowderError as error:
        return [], None, str(error)
    return sessions, transcript, None


def _model(request: Request, instance: Instance) -> str:
    """The model of the instance's last call, or one of its provider."""
    last = services(request).call_log.latest().get(instance.id)
    if last is not None and last.organization_id == caller(request).organization_id and last.model:
        return last.model
    return model_of(ModelProvider(instance.model_provider))


def _turn_rows(turns: Sequence[TranscriptTurn]) -> list[TurnRow]:
    """Rows of the turns; slow if it renders dozens of long texts."""
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


async def _find_turn(request: Request, text_max: int) -> TranscriptTurn:
    instance = await instance_of(request)
    query = parse_query(request, TurnQuery)
    digits = request.path_params["position"]
    # More digits are no position, and take long to parse.
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        raise TurnNotFound
    position = int(digits)
    transcript = await services(request).conversation_reader.transcript(
        instance, query.key, limit=1, before=position + 1, text_max=text_max
    )
    turns = [each for each in transcript.turns if each.position == position]
    if query.nth >= len(turns):
        raise TurnNotFound
    return turns[query.nth]


def _html(turn: TranscriptTurn, text: str) -> str | None:
    return render_markdown(text) if turn.role == "assistant" else None


def _text(turn: TranscriptTurn) -> str:
    if turn.role == "tool_call":
        arguments = turn.arguments
        return "" if arguments is None else json.dumps(arguments, indent=2, ensure_ascii=False)
    return turn.text or ""
