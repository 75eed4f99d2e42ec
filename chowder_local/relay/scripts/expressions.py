"""Regular expressions and templates of a script, with bounds on their time and memory."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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


NAMES = ("text", "turn", "session", "model", "provider", "groups", "tool", "result")
TEMPLATE_MAX = 20_000
FILTERS_MAX = 5
RENDERED_MAX = 1_000_000
"""Characters of the result, and of each value on which a filter works."""

_FILTERS: Mapping[str, Callable[[Any], Any]] = {
    "upper": lambda value: str(value).upper(),
    "lower": lambda value: str(value).lower(),
    "capitalize": lambda value: str(value).capitalize(),
    "trim": lambda value: str(value).strip(),
    "length": lambda value: len(str(value)),
    "tojson": lambda value: json.dumps(value, ensure_ascii=False),
}
SYNTAX = (
    "Double braces take a name: {{ text }}, turn, session, model, provider, tool, result, "
    "{{ groups[1] }} or {{ groups.name }}; or a text in quotes. "
    f"Up to {FILTERS_MAX} filters may follow: {', '.join(_FILTERS)}, and "
    "{{ tool | default('none') }} for a missing value"
)
_UNSUPPORTED = ("{%", "{#")
_TOKEN = re.compile(
    r"""\s*(?:(?P<end>\}\})|(?P<word>[A-Za-z_]\w*)|(?P<number>\d+)"""
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<mark>[][|().]))"""
)
_MISSING = object()


class TemplateInvalid(Exception):
    """A template is invalid, or a value is missing or too long; the message says which."""


@dataclass(frozen=True)
class _Slot:
    """The content of double braces: a value and its filters."""

    name: str | None
    """None if the value is `key` itself."""
    key: str | int | None
    filters: tuple[tuple[str, str | None], ...]

    def value(self, values: Mapping[str, Any]) -> str:
        value = self._resolve(values)
        for name, default in self.filters:
            if name == "default":
                value = default if value in (_MISSING, None) else value
            elif value is not _MISSING:
                _check_length(value)
                value = _FILTERS[name](value)
        if value is _MISSING:
            raise TemplateInvalid(f"there is no group {self.key!r}")
        return str(value)

    def _resolve(self, values: Mapping[str, Any]) -> Any:
        if self.name is None:
            return self.key
        value = values[self.name]
        return value if self.key is None else value.get(self.key, _MISSING)


def check(template: str) -> str:
    """The same template. Raises TemplateInvalid if it is invalid."""
    _read(template)
    return template


def render(
    template: str, values: Mapping[str, Any], before_part: Callable[[], object] = lambda: None
) -> str:
    """The template's text. `values` are by NAMES; those of `groups` are by number and name.

    `before_part` is called before each part and may raise. Raises TemplateInvalid if a group is
    missing or a text too long.
    """
    parts, length = [], 0
    try:
        for part in _read(template):
            before_part()
            parts.append(part if isinstance(part, str) else part.value(values))
            length += _check_length(parts[-1], length)
    except TemplateInvalid as invalid:
        raise TemplateInvalid(f"the template {template[:200]!r} fails: {invalid}") from None
    return "".join(parts)


def _check_length(value: Any, before: int = 0) -> int:
    length = len(value) if isinstance(value, str) else 0
    if before + length > RENDERED_MAX:
        raise TemplateInvalid(f"the text has more than {RENDERED_MAX:,} characters")
    return length


@lru_cache(maxsize=32)
def _read(template: str) -> tuple[str | _Slot, ...]:
    if len(template) > TEMPLATE_MAX:
        raise TemplateInvalid(f"is not a valid template: more than {TEMPLATE_MAX:,} characters")
    return tuple(_Reader(template).parts())


@dataclass(eq=False, repr=False)
class _Reader:
    """Parses a template in one pass."""

    template: str

    def __post_init__(self) -> None:
        self._at = 0

    def parts(self) -> Iterator[str | _Slot]:
        while (begin := self.template.find("{{", self._at)) >= 0:
            yield self._plain(self.template[self._at : begin])
            self._at = begin + 2
            yield self._slot()
        yield self._plain(self.template[self._at :])

    def _plain(self, text: str) -> str:
        for mark in _UNSUPPORTED:
            if (place := text.find(mark)) >= 0:
                self._at += place
                raise self._invalid(
                    f"{mark} is not supported; for the characters, write {{{{ '{mark}' }}}}"
                )
        return text

    def _slot(self) -> _Slot:
        name: str | None = None
        key: str | int | None = None
        kind, text = self._next()
        if kind in {"double", "single"}:
            key = text
        elif kind == "word" and text in NAMES:
            name = text
            if name == "groups":
                key = self._key()
        else:
            raise self._invalid(f"{text!r} is not a known name")
        return _Slot(name, key, tuple(self._filters()))

    def _key(self) -> str | int:
        mark = self._next()[1]
        kind, text = self._next() if mark in {".", "["} else ("", "")
        if mark == "." and kind in {"word", "number"}:
            return int(text) if kind == "number" else text
        if mark == "[" and kind in {"number", "double", "single"} and self._next()[1] == "]":
            return int(text) if kind == "number" else text
        raise self._invalid("groups needs a number or a name")

    def _filters(self) -> Iterator[tuple[str, str | None]]:
        for _ in range(FILTERS_MAX + 1):
            kind, text = self._next()
            if kind == "end":
                return
            if text != "|":
                raise self._invalid(f"{text!r} is not expected here")
            _, name = self._next()
            if name == "default":
                yield name, self._default()
            elif name in _FILTERS:
                yield name, None
            else:
                raise self._invalid(f"{name!r} is not a known filter")
        raise self._invalid("there are too many filters")

    def _default(self) -> str:
        opened, (kind, text), closed = self._next(), self._next(), self._next()
        if (opened[1], closed[1]) != ("(", ")") or kind not in {"double", "single"}:
            raise self._invalid("default takes a text in quotes")
        return text

    def _next(self) -> tuple[str, str]:
        token = _TOKEN.match(self.template, self._at)
        if token is None:
            is_over = not self.template[self._at :].strip()
            raise self._invalid(
                "it ends within braces" if is_over else "this is not a name or filter"
            )
        self._at = token.end()
        kind = str(token.lastgroup)
        return kind, token[kind]

    def _invalid(self, reason: str) -> TemplateInvalid:
        place = f"is not a valid template at character {self._at}"
        return TemplateInvalid(f"{place}: {reason}. {SYNTAX}")
