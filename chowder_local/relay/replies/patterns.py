"""Regular expressions of a script, none of which holds up the server for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Match

TIMEOUT_S = 0.2
"""For one search; what people write takes microseconds, unless it goes back and forth for ever."""


class PatternInvalid(Exception):
    """A pattern cannot be read; the words say what of it."""


class PatternTooSlow(Exception):
    """A search took too long; the words say for what."""


def checked(pattern: str) -> str:
    """The pattern, if it can be read. Raises PatternInvalid."""
    # Few servers are given a script.
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise PatternInvalid(f"is no regular expression: {error}") from None
    return pattern


def search(pattern: str, text: str) -> Match[str] | None:
    """Where the pattern is found first. Raises PatternTooSlow."""
    # It reads what Python's own module reads, and that one cannot be stopped.
    import regex

    try:
        return regex.search(pattern, text, timeout=TIMEOUT_S)
    except TimeoutError:
        raise PatternTooSlow(
            f"the regular expression {pattern!r} took longer than {TIMEOUT_S} s: "
            "repeat nothing that can be read in several ways, as (a|aa)+ does"
        ) from None
