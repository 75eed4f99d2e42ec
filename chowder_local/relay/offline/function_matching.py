"""Which of a client's functions a message is about, and what to call it with (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chowder_local.relay.offline.arguments import minimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.relay.wire.conversation import Tool

_COMMON = """
    all an and any are as at be by call can check client current did do does fetch find for from
    function get give has have how if in info is it its list look make me my new no not now of
    on one or our please run set show tell that the then this to tool use was we what when where
    which who why will with you your
"""
_STOP_WORDS = frozenset(_COMMON.split())
"""Words that tell nothing about what a function or a message is about."""

_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_PHRASE = re.compile(r'"([^"\n]+)"|“([^”\n]+)”|((?:\b[A-Z][\w-]*)(?: [A-Z][\w-]*)*)')
_MAX_CHARACTERS = 10_000
"""Of a message that are looked at."""
_PLACEHOLDER = minimal({"properties": {"x": {"type": "string"}}, "required": ["x"]})["x"]


def match_function(message: str, functions: Iterable[Tool]) -> Tool | None:
    """The one function that has a word of its name in the message; None if there are several."""
    said = _topics(_WORD.findall(message[:_MAX_CHARACTERS]))
    fitting = [each for each in functions if said & _topics(_WORD_OF_NAME.findall(each.name))]
    return fitting[0] if len(fitting) == 1 else None


def arguments_from(message: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest arguments of a schema, with names and quotations of the message in its texts."""
    # What an object in the message says is another thing.
    arguments, phrases = minimal(schema), _phrases(message[:_MAX_CHARACTERS].partition("{")[0])
    properties = schema.get("properties") or {}
    for name, value in arguments.items():
        if value == _PLACEHOLDER and _is_free_text(properties.get(name)):
            arguments[name] = next(phrases, value)
    return arguments


def _topics(words: Iterable[str]) -> set[str]:
    lowered = {word.lower() for word in words if len(word) > 1} - _STOP_WORDS
    # As singulars, so that list_orders is about an order.
    return {word.removesuffix("s") if len(word) > 3 else word for word in lowered} - _STOP_WORDS


def _phrases(message: str) -> Iterator[str]:
    for found in _PHRASE.finditer(message):
        phrase: str = found[1] or found[2] or found[3]
        if found[3] and _begins_sentence(message, found.start()):
            # The first word of a sentence has a capital anyway.
            first, _, rest = phrase.partition(" ")
            phrase = rest if first.lower() in _STOP_WORDS or not rest else phrase
        if phrase and phrase.lower() not in {"i", *_STOP_WORDS}:
            yield phrase


def _begins_sentence(message: str, at: int) -> bool:
    before = message[:at].rstrip()
    return not before or before[-1] in ".!?:" or "\n" in message[len(before) : at]


def _is_free_text(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.keys() <= {"type", "title", "description"}
