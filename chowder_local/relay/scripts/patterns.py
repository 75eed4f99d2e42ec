"""Regular expressions of a script, with bounds on their time and memory."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Match, Pattern

LIMIT_S = 0.5
"""Processor time for all searches of one model call. Usual expressions take a few ms."""
LENGTH_MAX = 1_000
SIZE_MAX = 2_000
"""The limit for an expression with its repetitions written out, as it is kept in memory."""
SEARCHED_MAX = 100_000
"""Characters. Backtracking in longer texts takes hundreds of megabytes."""

_QUOTED_CHARACTERS = 200
_REPEAT = re.compile(r"(.?)\{\s*(\d+)", re.DOTALL)
_VERBOSE = re.compile(r"\(\?[^):<>=!]*x")


class PatternInvalid(Exception):
    """A pattern is invalid; the message says why."""


class MatchingTooSlow(Exception):
    """The search for a rule has used up the time limit of its model call."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"the search for a rule took longer than {LIMIT_S} s and stopped at "
            f"{part[:_QUOTED_CHARACTERS]!r}. In regular expressions, do not repeat what can match "
            "the same text in several ways, as (a|aa)+ does"
        )


class TimeLimit:
    """The processor time that the current thread may spend on the rules of one model call."""

    def __init__(self) -> None:
        # Thread time: a busy processor is not the rules' fault.
        self._until_s = time.thread_time() + LIMIT_S

    def left_s(self, part: str) -> float:
        """Seconds left. Raises MatchingTooSlow, which quotes the part, if there are none."""
        if (left_s := self._until_s - time.thread_time()) <= 0:
            raise MatchingTooSlow(part)
        return left_s


def size(pattern: str) -> int:
    """An upper bound of the pattern's length with its repetitions written out, as when compiled.

    The pattern is not parsed, so the bound may be higher than needed.
    """
    repeated, once = 1, len(pattern)
    for before, count in _REPEAT.findall(pattern):
        number = int(count[:9])
        if before.isalnum() or before in "_.]":
            once += number
        else:
            # Anything else may end a group, which may contain repetitions.
            repeated *= max(number, 1)
    return once * repeated


def compile_pattern(pattern: str) -> Pattern[str]:
    """The compiled pattern. Raises PatternInvalid if it is invalid or too long."""
    # Imported here because few servers have a script. Unlike `re`, it has a timeout.
    import regex

    if _VERBOSE.search(pattern):
        if "#" in pattern:
            raise PatternInvalid("has a # in a verbose part, which is not supported")
        # In a verbose pattern a number may contain white space.
        bare = "".join(pattern.split())
    else:
        bare = pattern
    if len(pattern) > LENGTH_MAX or max(size(pattern), size(bare)) > SIZE_MAX:
        raise PatternInvalid(
            f"is too long: it may have {LENGTH_MAX} characters, and {SIZE_MAX} with repetitions "
            "such as (abc){100} written out"
        )
    try:
        # The rule keeps it; a cache would keep it longer.
        return regex.compile(pattern, cache_pattern=False)
    except regex.error as error:
        raise PatternInvalid(f"is not a valid regular expression: {error}") from None
    except RecursionError:
        raise PatternInvalid("is nested too deeply") from None


def search(pattern: Pattern[str], text: str, limit: TimeLimit) -> Match[str] | None:
    """The first match in the first SEARCHED_MAX characters. Raises MatchingTooSlow."""
    left_s = limit.left_s(pattern.pattern)
    try:
        return pattern.search(text[:SEARCHED_MAX], timeout=left_s, concurrent=True)
    except TimeoutError:
        raise MatchingTooSlow(pattern.pattern) from None
