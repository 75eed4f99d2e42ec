"""Matches a message to a client's function and makes the smallest arguments (pure)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.relay.wire.conversation import Tool

_MAX_DEPTH = 12
_MAX_STEPS = 2_000
"""How many values, or 64 characters of them, are made for a schema: references can multiply."""
_STEP_CHARACTERS = 64
_MAX_REFERENCE = 1_000
_MAX_FUNCTIONS = 1_000
_MAX_NAME = 200
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "url": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_COMMON = """
    all an and any are as at be by call can check client current did do does fetch find for from
    function get give has have how if in info is it its list look make me my new no not now of
    on one or our please run set show tell that the then this to tool use was we what when where
    which who why will with you your
"""
_STOP_WORDS = frozenset(_COMMON.split())
"""Words that say nothing about the topic of a function or a message."""

_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_PHRASE = re.compile(r'"([^"\n]+)"|“([^“”\n]+)”|((?:\b[A-Z][\w-]*)(?: [A-Z][\w-]*)*)')
_MAX_CHARACTERS = 10_000
"""The part of a message that is searched."""
_PLACEHOLDER = "text"


def match_function(message: str, functions: Iterable[Tool]) -> Tool | None:
    """The only function whose name shares a word with the message; None if there are several."""
    topics = _topics(_WORD.findall(message[:_MAX_CHARACTERS]))
    fitting = [
        each
        for each in islice(functions, _MAX_FUNCTIONS)
        if topics & _topics(_WORD_OF_NAME.findall(each.name[:_MAX_NAME]))
    ]
    return fitting[0] if len(fitting) == 1 else None


def arguments_from(message: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest arguments of a schema; names and quotations of the message fill its texts."""
    # Text within a JSON object of the message does not count.
    arguments, phrases = minimal(schema), _phrases(message[:_MAX_CHARACTERS].partition("{")[0])
    properties = schema.get("properties") or {}
    for name, value in arguments.items():
        if value == _PLACEHOLDER and _is_free_text(properties.get(name)):
            arguments[name] = next(phrases, value)
    return arguments


def _topics(words: Iterable[str]) -> set[str]:
    lowered = {word.lower() for word in words if len(word) > 1} - _STOP_WORDS
    # Singular, so that list_orders matches "order".
    return {word.removesuffix("s") if len(word) > 3 else word for word in lowered} - _STOP_WORDS


def _phrases(message: str) -> Iterator[str]:
    for match in _PHRASE.finditer(message):
        phrase: str = match[1] or match[2] or match[3]
        if match[3] and _begins_sentence(message, match.start()):
            # The first word of a sentence is always capitalized.
            first, _, rest = phrase.partition(" ")
            phrase = rest if first.lower() in _STOP_WORDS or not rest else phrase
        if phrase and phrase.lower() not in {"i", *_STOP_WORDS}:
            yield phrase


def _begins_sentence(message: str, at: int) -> bool:
    before = message[:at].rstrip()
    return not before or before[-1] in ".!?:" or "\n" in message[len(before) : at]


def _is_free_text(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.keys() <= {"type", "title", "description"}


def minimal(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the required properties, each with the simplest value of its type."""
    return _Values(schema).object(schema, _MAX_DEPTH)


def fits(schema: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether an object has all required and only known properties. Values are not checked."""
    properties = schema.get("properties") or {}
    return set(schema.get("required") or []) <= value.keys() <= properties.keys()


@dataclass(eq=False, repr=False)
class _Values:
    """Makes values for parts of one schema and resolves its references."""

    root: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._steps_left = _MAX_STEPS

    def _spend(self, characters: int = 0) -> bool:
        """Counts a step, and more for a long text; False if there are none left."""
        self._steps_left -= 1 + characters // _STEP_CHARACTERS
        return self._steps_left >= 0

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        names = dict.fromkeys((schema.get("required") or [])[:_MAX_STEPS])
        # Optional properties fill up to `minProperties`.
        missing = int(schema.get("minProperties") or 0) - len(names)
        others = (name for name in properties if name not in names)
        names |= dict.fromkeys(list(islice(others, max(0, min(missing, _MAX_STEPS)))))
        return {
            name: self.value(properties.get(name), depth - 1)
            for name in names
            if self._spend(len(name))
        }

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth <= 0 or not self._spend():
            return ""
        if "$ref" in schema:
            return self.value(self._referenced(str(schema["$ref"])), depth - 1)
        if fixed := [schema[key] for key in ("const", "default") if key in schema]:
            return self._fixed(fixed[0])
        if allowed := schema.get("enum") or schema.get("examples"):
            return self._fixed(allowed[0])
        if schemas := schema.get("anyOf") or schema.get("oneOf"):
            return self._one_of(schemas, depth)
        if schema.get("allOf"):
            return self.value(self._merged(schema), depth - 1)
        return self._of_type(schema, depth)

    def _fixed(self, value: Any) -> Any:
        return value if self._spend(len(json.dumps(value))) else ""

    def _referenced(self, reference: str) -> Any:
        part: Any = self.root
        if len(reference) > _MAX_REFERENCE:
            return None
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            part = part.get(name) if name and isinstance(part, dict) else part
        return part

    def _one_of(self, schemas: list[Any], depth: int) -> Any:
        self._spend(len(schemas))
        # A schema that refers to itself ends with null, if that is allowed.
        if depth <= _MAX_DEPTH // 2 and (simplest := [each for each in schemas if _is_null(each)]):
            schemas = simplest
        return self.value(schemas[0], depth - 1)

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {key: part for key, part in schema.items() if key != "allOf"}
        properties = dict(merged.get("properties", {}))
        required = dict.fromkeys(merged.get("required", []))
        for each in schema["allOf"]:
            part = self._referenced(str(each["$ref"])) if "$ref" in each else each
            own = part.get("properties", {})
            if not self._spend(len(own)):
                break
            properties |= own
            required |= dict.fromkeys(part.get("required", []))
            merged |= part
        if properties:
            merged |= {"properties": properties, "required": list(required)}
        return merged

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0] if kind else None
        # Gemini's schemas have types in capitals.
        kind = str(kind or ("object" if "properties" in schema else "string")).lower()
        if kind == "object":
            return self.object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in {"integer", "number"}:
            return _number(schema, is_whole=kind == "integer")
        simplest: dict[str, Any] = {"boolean": False, "null": None}
        return simplest[kind] if kind in simplest else self._text(schema)

    def _text(self, schema: Mapping[str, Any]) -> str:
        if example := _FORMATS.get(str(schema.get("format"))):
            return example
        text, length = _PLACEHOLDER[: schema.get("maxLength")], int(schema.get("minLength") or 0)
        return text.ljust(length, "x") if self._spend(length) else text

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        if before := schema.get("prefixItems"):
            return [self.value(each, depth - 1) for each in before[:_MAX_STEPS]]
        count = min(int(schema.get("minItems") or 0), max(0, self._steps_left))
        return [self.value(schema.get("items"), depth - 1) for _ in range(count)]


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _number(schema: Mapping[str, Any], *, is_whole: bool) -> Any:
    """The minimum if there is one; else 1, or the largest allowed number if 1 is too large."""
    step = schema.get("multipleOf") or (1 if is_whole else 0.5)
    if "minimum" in schema or "exclusiveMinimum" in schema:
        above = schema.get("exclusiveMinimum")
        at_least = schema.get("minimum", above if above is not None else 0)
        number = -(-at_least // step) * step
        return number + step if above is not None and number <= above else number
    number = step if step > 1 else 1
    if (at_most := schema.get("maximum")) is not None and number > at_most:
        number = at_most // step * step
    if (below := schema.get("exclusiveMaximum")) is not None and number >= below:
        number = -(-below // step) * step - step
    return number
