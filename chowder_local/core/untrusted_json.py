"""JSON of a sandbox, which an agent may have taken over, read such that code can rely on it (pure).

It may be anything: what gets through here can be used without looking, and written as JSON again.
The readers raise ValueError.
"""

from __future__ import annotations

import json
import math
from typing import Any

DEPTH_MAX = 200
"""Far less than what JSON's own reader and writer can take."""


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


def object_of(value: Any) -> dict[str, Any]:
    """A member that should be an object, or else an empty one."""
    return value if isinstance(value, dict) else {}


def object_at(value: Any, *names: str) -> dict[str, Any]:
    """The object that names lead to, from object to object, or else an empty one."""
    for name in names:
        value = object_of(value).get(name)
    return object_of(value)


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Those members of what should be an array of objects that are some."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """A member that should be text, or else an empty one."""
    return value if isinstance(value, str) else ""


def texts_of(value: Any) -> tuple[str, ...]:
    """Those members of what should be an array of text that are some."""
    return tuple(filter(None, map(text_of, value))) if isinstance(value, list) else ()


def whole(value: Any) -> Any:
    """JSON that was read, in which no character is only a half of one."""
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
