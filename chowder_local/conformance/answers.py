"""Checks of answers by the published contract. Each raises a Drift that says what differs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from chowder_local.conformance import published
from chowder_local.conformance.drift import Drift

if TYPE_CHECKING:
    import httpx

OPERATION = "operation"
"""The key of the operation's id in the extensions of an answer."""
JSON = "application/json"
PROBLEM = {
    "type": "object",
    "properties": {
        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
        "msg": {"type": "string"},
        "type": {"type": "string"},
    },
    # Others, such as the input, are allowed; clients need these.
    "required": ["loc", "msg", "type"],
}
MESSAGE_ERROR_MEMBERS = ("message", "type", "code", "param")
MESSAGE_ERROR = {
    "type": "object",
    "properties": {name: {"type": ["string", "null"]} for name in MESSAGE_ERROR_MEMBERS},
    "required": list(MESSAGE_ERROR_MEMBERS),
    "additionalProperties": False,
}
CLOCK_TOLERANCE = timedelta(minutes=10)


def operation_of(answer: httpx.Response) -> str:
    """The id of the operation that an answer is of, or its request if it is of none."""
    operation: str = answer.extensions[OPERATION]
    return operation


def answered(answer: httpx.Response) -> Any:
    """The content of an answer: bytes, JSON, or None. Fails unless it is as published."""
    call = published.read().calls[operation_of(answer)]
    require_status(answer, call.status)
    if call.kind is None:
        require(answer, "no content", f"{len(answer.content)} bytes", holds=not answer.content)
        return None
    if call.kind == "bytes":
        return answer.content
    content = json_of(answer)
    fits(content, call.kind, operation_of(answer))
    return content


def refused(answer: httpx.Response, status: int, words: str | None = None) -> str:
    """The message of an error; fails unless it has the status and the published form."""
    require_status(answer, status)
    content = json_of(answer)
    if answer.request.url.path.endswith("/responses"):
        # The difference `message-errors`.
        error = content.pop("error", dict.fromkeys(MESSAGE_ERROR_MEMBERS))
        _valid(error, MESSAGE_ERROR, operation_of(answer), "an error of OpenAI's API")
    require(answer, "an object with `detail` only", answer.text, holds=set(content) == {"detail"})
    detail = content["detail"]
    if isinstance(detail, dict) and set(detail) == {"error"}:
        # A failure of a gateway or model provider.
        detail = detail["error"]
    require(answer, "a message", answer.text, holds=isinstance(detail, str) and bool(detail))
    require(answer, f"the message {words!r}", f"{detail!r}", holds=words in {None, detail})
    return str(detail)


def allowed(answer: httpx.Response) -> None:
    """Fails if the key is refused; the request itself may be invalid, or of nothing there."""
    holds = answer.is_success or answer.status_code in {404, 422}
    require(answer, "a request that the key may send", status_and_text(answer), holds=holds)


def rejected(answer: httpx.Response) -> None:
    """Fails unless the client is blamed; which status says so is not published."""
    require(answer, "a status of 400 to 499", status_and_text(answer), holds=answer.is_client_error)


def invalid(answer: httpx.Response, *loc: str) -> list[dict[str, Any]]:
    """The problems of a 422; fails unless one is at `loc`, if given."""
    require_status(answer, 422)
    detail = json_of(answer).get("detail")
    problems: list[dict[str, Any]] = detail if isinstance(detail, list) else []
    require(answer, "a list of problems", answer.text, holds=bool(problems))
    for each in problems:
        _valid(each, PROBLEM, operation_of(answer), "a problem of a 422")
    places = [tuple(each["loc"])[: len(loc)] for each in problems]
    require(answer, f"a problem at {loc}", f"{places}", holds=loc in places)
    return problems


def fits(value: Any, kind: published.Kind, operation: str) -> None:
    """Fails unless a value is of the kind."""
    _check(value, _validator(str(kind)), operation, f"{kind} as published")


def require_status(answer: httpx.Response, status: int) -> None:
    """Fails unless an answer has the status."""
    # The content of a stream cannot be shown.
    if answer.status_code != status:
        raise Drift(operation_of(answer), f"{status}", status_and_text(answer))


def require(answer: httpx.Response, expected: str, observed: str, *, holds: bool) -> None:
    """Fails unless something holds of an answer."""
    if not holds:
        raise Drift(operation_of(answer), expected, observed)


def json_of(answer: httpx.Response) -> Any:
    """The content of an answer; fails unless its type is JSON."""
    media_type = answer.headers.get("Content-Type", "none").partition(";")[0]
    require(answer, JSON, media_type, holds=media_type == JSON)
    return answer.json()


def status_and_text(answer: httpx.Response) -> str:
    """An answer as a report shows it."""
    return f"{answer.status_code} {answer.text}".strip()


def is_recent(time: str, now: datetime | None = None) -> bool:
    """Whether a time is close to `now`, with a tolerance for differing clocks."""
    return abs((now or datetime.now(UTC)) - datetime.fromisoformat(time)) < CLOCK_TOLERANCE


@cache
def _validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    schema = published.read().schema_of(kind)
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def _valid(value: Any, schema: dict[str, Any], operation: str, expected: str) -> None:
    _check(value, jsonschema_rs.Draft202012Validator(schema), operation, expected)


def _check(
    value: Any, validator: jsonschema_rs.Draft202012Validator, operation: str, expected: str
) -> None:
    for error in validator.iter_errors(value):
        place = ".".join(map(str, error.instance_path))
        raise Drift(operation, expected, f"{place}: {error.message}".removeprefix(": "))
