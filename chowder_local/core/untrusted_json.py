"""Readers of untrusted JSON from sandboxes (pure).

Code can use their results without further checks, and write them as JSON again. The readers raise
ValueError if the text is no JSON, is nested too deeply, has too many values, or a number that JSON
cannot write.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MISSING = "missing"
"""pydantic's type of the problem that a member is missing."""


def written_path(content: Any, location: Sequence[str | int], kind: str) -> list[str | int]:
    """The steps of pydantic's `location` that exist in `content`, without names of union members.

    `kind` is the problem's type: the last step of a missing member stays.
    """
    steps: list[str | int] = []
    for number, step in enumerate(location, start=1):
        exists = (isinstance(content, dict) and step in content) or (
            isinstance(content, list) and isinstance(step, int) and step < len(content)
        )
        if exists:
            content = content[step]
        if exists or (kind == MISSING and number == len(location)):
            steps.append(step)
    return steps


DEPTH_MAX = 200
"""Far below the limits of Python's json module."""
VALUES_MAX = 100_000
"""Reading so many values takes up to 50 ms, in which no other thread runs, and 20 MB."""
_LONGEST_MS = 8.64e15
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_NO_SEPARATORS = bytes(set(range(256)) - set(b",:[{"))
MESSAGE_MAX = 2_000
"""The most characters of a message for people."""


def read(text: bytes | str, *, values_max: int | None = None) -> Any:
    """A JSON value with at most DEPTH_MAX levels and finite numbers only.

    With `values_max` it has so many values at most; names of members count, too.
    """
    if values_max is not None:
        as_bytes = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        check_count(as_bytes, values_max)
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        # Python's message names one of Python's functions.
        if str(error).startswith("Exceeds the limit"):
            raise ValueError("a number has too many digits") from None
        raise
    # Counting brackets is quick and rules out most texts.
    is_suspect = text.count("[") + text.count("{") > DEPTH_MAX
    if is_suspect and is_deeper(value, DEPTH_MAX):
        raise ValueError("nested too deeply")
    return value


def read_encodable(text: bytes, *, values_max: int | None = None) -> Any:
    """As `read`; the value can be encoded as UTF-8: each lone surrogate is `�`."""
    value = read(text, values_max=values_max)
    # Only an escape can produce a lone surrogate, and most texts have none.
    has_surrogates = b"\\ud" in text or b"\\uD" in text
    return replace_surrogates(value) if has_surrogates else value


def read_object(text: bytes | str, *, values_max: int | None = VALUES_MAX) -> dict[str, Any]:
    """A JSON object, read as `read` does."""
    return _object(read(text, values_max=values_max))


def read_encodable_object(text: bytes, *, values_max: int = VALUES_MAX) -> dict[str, Any]:
    """As `read_object`; the object can be encoded as UTF-8."""
    return _object(read_encodable(text, values_max=values_max))


def is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value is nested deeper than that; a text or a number has no level."""
    # The loop goes level by level: on a deep stack, a recursion takes a hundred times as long.
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        below: list[Any] = []
        for each in level:
            below += each.values() if isinstance(each, dict) else each
        if not (level := [each for each in below if isinstance(each, dict | list)]):
            return False
    return bool(level)


def object_of(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def object_at(value: Any, *names: str) -> dict[str, Any]:
    """The nested object at the path `names`, or an empty one."""
    for name in names:
        value = object_of(value).get(name)
    return object_of(value)


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The objects in an array; none if the value is no array."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """The value if it is text, else an empty text."""
    return value if isinstance(value, str) else ""


def message_of(value: Any) -> str:
    """The first MESSAGE_MAX characters of a text for people; an empty text if it is none.

    Errors enter here: they are searched, logged and shown afterwards.
    """
    return text_of(value)[:MESSAGE_MAX]


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts in an array that are not empty; none if the value is no array."""
    return tuple(filter(None, map(text_of, value))) if isinstance(value, list) else ()


def moment_of(value: Any) -> datetime | None:
    """The moment of a time in milliseconds, as JavaScript has it; None if the value is none."""
    if not isinstance(value, int | float) or not 0 < value <= _LONGEST_MS:
        return None
    seconds = value / 1000
    return datetime.fromtimestamp(seconds, UTC) if seconds < _LAST.timestamp() else _LAST


def replace_surrogates(value: Any) -> Any:
    """The JSON value with `�` in place of each lone surrogate."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # This is many times as fast as a search: each half of a character becomes three invalid
        # bytes.
        content = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return json.loads(content.replace("\ufffd" * 3, "\ufffd"))
    return value


def check_count(text: bytes, values_max: int) -> None:
    """Raises ValueError if JSON has more values than `values_max`, without parsing it."""
    if _separators(text) < values_max:
        return
    # Separators within strings do not count.
    text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    has_too_many_strings = text.count(b'"') > 2 * (values_max + 1)
    if has_too_many_strings or _separators(b"".join(text.split(b'"')[::2])) > values_max:
        raise ValueError(f"it has more than {values_max} values")


def _separators(text: bytes) -> int:
    return len(text.translate(None, _NO_SEPARATORS))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("a number is too large")
    return number


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not valid JSON")


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_refuse)
