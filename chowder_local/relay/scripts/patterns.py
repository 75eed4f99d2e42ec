"""Regular expressions of a script, which take little time and memory, read or searched for."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Match, Pattern

LIMIT_S = 0.5
"""Of a processor, for all that is searched for one model call: what people write takes a few ms."""
LENGTH_MAX = 1_000
SIZE_MAX = 2_000
"""Of one expression, with what has to be repeated counted as often: all of it is in memory."""
SEARCHED_MAX = 100_000
"""Characters; to go back in more than that takes memory by the hundred megabytes."""

_QUOTED_CHARACTERS = 200
_REPEAT = re.compile(r"(.?)\{\s*(\d+)", re.DOTALL)
_VERBOSE = re.compile(r"\(\?[^):<>=!]*x")


class PatternInvalid(Exception):
    """A pattern cannot be read; the words say what of it."""


class MatchingTooSlow(Exception):
    """All that a script has to search for one model call took too long."""

    def __init__(self, looked_at: str) -> None:
        super().__init__(
            f"to find the rule took longer than {LIMIT_S} s, when it came to "
            f"{looked_at[:_QUOTED_CHARACTERS]!r}. In regular expressions, repeat nothing that can "
            "be read in several ways, as (a|aa)+ does"
        )


class TimeLimit:
    """What the thread that makes it may spend on the rules of one model call."""

    def __init__(self) -> None:
        # Of this thread: that others keep the processor busy is no fault of the rules.
        self._until_s = time.thread_time() + LIMIT_S

    def left_s(self, looked_at: str) -> float:
        """What is left for a pattern or a text. Raises MatchingTooSlow."""
        if (left_s := self._until_s - time.thread_time()) <= 0:
            raise MatchingTooSlow(looked_at)
        return left_s


def size(pattern: str) -> int:
    """How long a pattern is at most with what it repeats written out, as the compiled one has it.

    It is not read for that, only looked at, so it may be taken for longer than it is.
    """
    repeated, once = 1, len(pattern)
    for before, count in _REPEAT.findall(pattern):
        number = int(count[:9])
        if before.isalnum() or before in "_.]":
            once += number
        else:
            # What ends with something else may be a group, with such repetitions in it.
            repeated *= max(number, 1)
    return once * repeated


def compile_pattern(pattern: str) -> Pattern[str]:
    """The pattern. Raises PatternInvalid."""
    # Few servers are given a script. It reads what Python's own module reads, and that one cannot
    # be stopped.
    import regex

    if _VERBOSE.search(pattern):
        if "#" in pattern:
            raise PatternInvalid("has a # in a verbose part, which is not taken")
        # In such a one a number may be written in pieces.
        bare = "".join(pattern.split())
    else:
        bare = pattern
    if len(pattern) > LENGTH_MAX or max(size(pattern), size(bare)) > SIZE_MAX:
        raise PatternInvalid(
            f"is too long: it may have {LENGTH_MAX} characters, and {SIZE_MAX} with what has to be "
            "repeated, as in (abc){100}, counted as often"
        )
    try:
        # With the rule it is forgotten.
        return regex.compile(pattern, cache_pattern=False)
    except regex.error as error:
        raise PatternInvalid(f"is no regular expression: {error}") from None
    except RecursionError:
        raise PatternInvalid("is nested too deeply") from None


def search(pattern: Pattern[str], text: str, limit: TimeLimit) -> Match[str] | None:
    """Where the pattern is found first, in the text's beginning. Raises MatchingTooSlow."""
    left_s = limit.left_s(pattern.pattern)
    try:
        return pattern.search(text[:SEARCHED_MAX], timeout=left_s, concurrent=True)
    except TimeoutError:
        raise MatchingTooSlow(pattern.pattern) from None
