"""Checks of answers by the published contract; what differs is a drift."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import jsonschema_rs

from chowder_local.conformance import published
from chowder_local.conformance.service import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from chowder_local.api.openapi.differences import Difference

_SECRET = re.compile(
    r'(chd_(?:org|sk)_)[A-Za-z0-9_-]{6,}|(Bearer )\S+|("(?:raw_key|api_key)"\s*:\s*")[^"]+'
)
LONGEST_TEXT = 500


class Drift(AssertionError):
    """An answer differs from what is expected. `entry` is the id of the difference that has it."""

    def __init__(
        self, operation: str, expected: str, observed: str, entry: str | None = None
    ) -> None:
        super().__init__(f"{operation}: expected {expected}, got {observed}")
        self.operation = operation
        self.expected = expected
        self.observed = observed
        self.entry = entry


@dataclass(frozen=True)
class DriftFinding:
    """A drift in a report, without secrets."""

    operation: str
    expected: str
    observed: str
    entry: str | None
    """The entry of the differences that explains it; None if nothing does."""
    test: str

    @classmethod
    def from_drift(cls, drift: Drift, test: str) -> DriftFinding:
        return cls(
            redacted(drift.operation),
            redacted(drift.expected),
            redacted(drift.observed),
            drift.entry,
            test,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def redacted(text: str) -> str:
    """A text on one line of bounded length, without keys."""
    line = " ".join(_SECRET.sub(lambda found: f"{found[found.lastindex or 0]}…", text).split())
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}…"


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


Observed = TypeVar("Observed")


@dataclass(eq=False, repr=False)
class Judge:
    """Compares observations with what the differences say of the target."""

    target: Target
    differences: Mapping[str, Difference]

    def __post_init__(self) -> None:
        self._known: list[Drift] = []

    def __call__(self, entry_id: str, observed: Observed) -> Observed:
        """Returns what was observed.

        Fails if it is not what is expected of the target. A hosted service that does what we do
        has a known drift, with which the test goes on.
        """
        entry = self.differences[entry_id]
        if entry.expect is None:
            raise ValueError(f"{entry_id} has no expectation.")
        here, hosted = entry.expect.here, entry.expect.hosted
        is_hosted = self.target is Target.HOSTED
        expected = hosted if is_hosted else here
        if jsonschema_rs.is_valid(expected, observed):
            return observed
        is_known = is_hosted and jsonschema_rs.is_valid(here, observed)
        drift = Drift(
            ", ".join(entry.operations) or entry.topic,
            entry.hosted if is_hosted else entry.here,
            f"{observed!r}",
            entry_id if is_known else None,
        )
        if not is_known:
            raise drift
        self._known.append(drift)
        return observed

    def take_known(self) -> list[Drift]:
        """The known drifts since the last call."""
        known, self._known = self._known, []
        return known
