"""Matches a message to a client's function and makes the smallest arguments (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chowder_local.relay.wire.conversation import Tool

_MAX_DEPTH = 12
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
_PHRASE = re.compile(r'"([^"\n]+)"|“([^”\n]+)”|((?:\b[A-Z][\w-]*)(?: [A-Z][\w-]*)*)')
_MAX_CHARACTERS = 10_000
"""The part of a message that is searched."""
_PLACEHOLDER = "text"


def match_function(message: str, functions: Iterable[Tool]) -> Tool | None:
    """The only function whose name shares a word with the message; None if there are several."""
    topics = _topics(_WORD.findall(message[:_MAX_CHARACTERS]))
    fitting = [each for each in functions if topics & _topics(_WORD_OF_NAME.findall(each.name))]
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


class _Values:
    """Makes values for parts of one schema and resolves its references."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        names = list(schema.get("required") or [])
        # Optional properties fill up to `minProperties`.
        missing = int(schema.get("minProperties") or 0) - len(names)
        names += [name for name in properties if name not in names][: max(0, missing)]
        return {name: self.value(properties.get(name), depth - 1) for name in names}

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth <= 0:
            return ""
        if "$ref" in schema:
            return self.value(self._referenced(str(schema["$ref"])), depth - 1)
        if fixed := [schema[key] for key in ("const", "default") if key in schema]:
            return fixed[0]
        if allowed := schema.get("enum") or schema.get("examples"):
            return allowed[0]
        if schemas := schema.get("anyOf") or schema.get("oneOf"):
            return self._one_of(schemas, depth)
        if schema.get("allOf"):
            return self.value(self._merged(schema), depth - 1)
        return self._of_type(schema, depth)

    def _referenced(self, reference: str) -> Any:
        part: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            part = part.get(name) if name and isinstance(part, dict) else part
        return part

    def _one_of(self, schemas: list[Any], depth: int) -> Any:
        # A schema that refers to itself ends with null, if that is allowed.
        if depth <= _MAX_DEPTH // 2 and (simplest := [each for each in schemas if _is_null(each)]):
            schemas = simplest
        return self.value(schemas[0], depth - 1)

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {key: part for key, part in schema.items() if key != "allOf"}
        for each in schema["allOf"]:
            part = self._referenced(str(each["$ref"])) if "$ref" in each else each
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", []), *part.get("required", [])]
            merged |= part
            if properties:
                merged |= {"properties": properties, "required": list(dict.fromkeys(required))}
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
        return simplest.get(kind, _text(schema))

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        if before := schema.get("prefixItems"):
            return [self.value(each, depth - 1) for each in before]
        return [self.value(schema.get("items"), depth - 1)] * int(schema.get("minItems") or 0)


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


def _text(schema: Mapping[str, Any]) -> str:
    if example := _FORMATS.get(str(schema.get("format"))):
        return example
    text = _PLACEHOLDER[: schema.get("maxLength")]
    return text.ljust(int(schema.get("minLength") or 0), "x")
