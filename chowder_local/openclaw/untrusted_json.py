"""What comes out of a sandbox, which an agent may have taken over, before anybody relies on it.

It may be anything: what gets through here can be used without looking, and written as JSON again.
All of it is pure, and raises ValueError.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import BaseModel, ConfigDict

DEPTH_MAX = 200
"""Far less than what JSON's own reader and writer can take."""


class _Shape(BaseModel):
    """Members that have to be of these types if they are there; others may be anything."""

    model_config = ConfigDict(strict=True)


class _Part(_Shape):
    type: str
    text: str = ""
    refusal: str = ""


class _Item(_Shape):
    type: str
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[_Part] = []


class _Usage(_Shape):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, Any] | None = None
    output_tokens_details: dict[str, Any] | None = None


class _Response(_Shape):
    id: str | None = None
    status: str | None = None
    output: list[_Item] = []
    usage: _Usage | None = None
    error: dict[str, Any] | None = None


class _Event(_Shape):
    type: str
    response: _Response = _Response()
    item: _Item = _Item(type="")
    part: _Part = _Part(type="")
    output_index: int = 0


def read(text: bytes | str) -> Any:
    """JSON that has no more levels than anything honest, and no number that JSON cannot write."""
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # Counting is quick, and most of what comes could not be so deep if it wanted to.
    if text.count("[") + text.count("{") > DEPTH_MAX:
        _check_depth(value)
    return value


def read_object(text: bytes | str) -> dict[str, Any]:
    """A JSON object."""
    value = read(text)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def read_whole_object(text: bytes) -> dict[str, Any]:
    """A JSON object of which every part can be kept, logged and shown."""
    value = read_object(text)
    # Only an escape can smuggle half a character in, and most that comes has none.
    return whole(value) if b"\\ud" in text or b"\\uD" in text else value


def check_response(value: dict[str, Any]) -> None:
    """Whether what a response's members are is what they are taken for."""
    _Response.model_validate(value)


def check_event(value: dict[str, Any]) -> None:
    """The same for an event of a stream."""
    _Event.model_validate(value)


def object_of(value: Any) -> dict[str, Any]:
    """A member that should be an object, or else an empty one (raises nothing)."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Those members of what should be an array of objects that are some (raises nothing)."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """A member that should be text, or else an empty one (raises nothing)."""
    return value if isinstance(value, str) else ""


def texts_of(value: Any) -> tuple[str, ...]:
    """Those members of what should be an array of text that are some (raises nothing)."""
    return tuple(filter(None, map(text_of, value))) if isinstance(value, list) else ()


def whole(value: Any) -> Any:
    """JSON that was read, in which no character is only a half of one (raises nothing)."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for each in level:
            below += each.values() if isinstance(each, dict) else each
        if not (level := [each for each in below if isinstance(each, dict | list)]):
            return
    raise ValueError("nested too deeply")


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("too large a number")
    return number


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_refuse)
