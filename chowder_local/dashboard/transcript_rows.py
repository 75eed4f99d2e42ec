"""Handlers: what was said, as much of it as a page bears, and all of it for who asks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field
from starlette.responses import Response

from chowder_local.core.errors.requests import TurnNotFound
from chowder_local.dashboard.markdown import rendered
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import fragment
from chowder_local.http.bodies import parse_query
from chowder_local.http.responses import attachment
from chowder_local.http.services import instance_of, services
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.openclaw.transcripts.reader import TEXT_MAX, TEXT_MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from chowder_local.openclaw.transcripts.turns import Turn

SHOWN_MAX = 4_000
"""So many characters of a text are in a page at first."""


class TurnWanted(BaseModel):
    """Which one: that of a message, by its place among what the message tells."""

    key: str = Field(MAIN_KEY, min_length=1, max_length=8192)
    nth: int = Field(0, ge=0, le=1000)


@dataclass(frozen=True)
class ShownTurn:
    """A turn, with the beginning of its text; `characters` is how long all of it is."""

    turn: Turn
    nth: int
    text: str
    characters: int
    is_cut: bool
    html: str | None
    """An agent's words, rendered; None of what is shown as it is."""

    @property
    def is_for_a_page(self) -> bool:
        """Whether a page bears all of it."""
        return self.characters <= TEXT_MAX and not (self.turn.is_cut and not self.text)


async def build_rows(turns: Sequence[Turn]) -> list[ShownTurn]:
    """As a page has them."""
    # Rendering dozens of long texts would keep everybody else waiting.
    return await asyncio.to_thread(_build_rows, turns)


def _build_rows(turns: Sequence[Turn]) -> list[ShownTurn]:
    before: Counter[int] = Counter()
    made = []
    for turn in turns:
        text = _text(turn)
        is_cut = turn.is_cut or len(text) > SHOWN_MAX
        beginning = f"{text[:SHOWN_MAX]}{'…' if is_cut and text else ''}"
        made.append(
            ShownTurn(
                turn=turn,
                nth=before[turn.position],
                text=text[:SHOWN_MAX],
                characters=turn.characters or len(text),
                is_cut=is_cut,
                html=_html(turn, beginning),
            )
        )
        before[turn.position] += 1
    return made


async def show(request: Request) -> Response:
    """All of a text, or as much as a page bears, to be put in the place of its beginning."""
    turn = await _turn(request, TEXT_MAX)
    text = _text(turn)[:TEXT_MAX]
    html = await asyncio.to_thread(_html, turn, text)
    return fragment(request, "whole_turn.html", text=text, html=html)


async def download(request: Request) -> Response:
    """All of a text as a file."""
    turn = await _turn(request, TEXT_MOST)
    body = _text(turn).encode()
    name = f"{turn.role}-{turn.position}.txt"
    return Response(body, headers=HEADERS | attachment(name, len(body)))


async def _turn(request: Request, text_max: int) -> Turn:
    instance = await instance_of(request)
    wanted = parse_query(request, TurnWanted)
    given = request.path_params["position"]
    # Longer ones are no position, and take their time to be read.
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
    return rendered(text) if turn.role == "assistant" else None


def _text(turn: Turn) -> str:
    if turn.role == "tool_call":
        arguments = turn.arguments
        return "" if arguments is None else json.dumps(arguments, indent=2, ensure_ascii=False)
    return turn.text or ""
