"""A drift: an answer that is not what the published pages, or the differences, lead to expect."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

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
class Finding:
    """A drift in a report, without secrets."""

    operation: str
    expected: str
    observed: str
    entry: str | None
    """The entry of the differences that explains it; None if nothing does."""
    test: str

    @classmethod
    def from_drift(cls, drift: Drift, test: str) -> Finding:
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
