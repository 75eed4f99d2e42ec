"""What a model call tells of where it comes from: its conversation, and its model (pure)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.choices import system_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_NAME = 200
"""A model or a key beyond that is nobody's, and would only fill the store."""

_MARK = b"Runtime: agent="
# As it is written in JSON and in a text alike: no quote, no line's end, no backslash.
_LINE = re.compile(
    r"Runtime: agent=[^|\"\\\n]* \| session=(?P<key>[^\"\\\n]+?) \| sessionId=(?P<id>[\w-]*)"
)
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]+)"')
_MODEL_IN_PATH = re.compile(r"models/(.+):[a-zA-Z]+\Z")
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Origin(NamedTuple):
    """The conversation that a call is made for: OpenClaw's key of it, and of what it remembers."""

    session_key: str
    session_id: str


def session_key_of(provider: ModelProvider, body: bytes) -> str | None:
    """OpenClaw's key of the conversation that a call is made for, if it tells."""
    origin = origin_of(provider, body)
    return None if origin is None else origin.session_key


def origin_of(provider: ModelProvider, body: bytes) -> Origin | None:
    """The conversation that a call is made for, if it tells.

    OpenClaw ends its system prompt with a line about its own surroundings. A person may quote such
    a line; then the system prompt is looked for, which takes longer.
    """
    first = body.find(_MARK)
    if first < 0:
        return None
    if body.find(_MARK, first + 1) < 0:
        # The line is ASCII up to the key's end, or is none of ours.
        found = list(_origins(body[first : first + 4 * LONGEST_NAME].decode("utf-8", "replace")))
    else:
        try:
            found = list(_origins(system_prompt(provider, json.loads(body))))
        except _UNREADABLE:
            return None
    return found[-1] if found and len(found[-1].session_key) <= LONGEST_NAME else None


def model_of(provider: ModelProvider, path: str, body: bytes) -> str | None:
    """The model that a call asks for."""
    if provider is ModelProvider.GEMINI:
        named = _MODEL_IN_PATH.search(unquote(path))
        model = named and named[1]
    else:
        found = _MODEL.search(body)
        model = found and found[1].decode("utf-8", "replace")
    return model if model and len(model) <= LONGEST_NAME else None


def _origins(text: str) -> Iterator[Origin]:
    return (Origin(found["key"], found["id"]) for found in _LINE.finditer(text))
