"""Regular expressions and templates of a script, with bounds on their time and memory."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import nodes
    from regex import Match, Pattern

LIMIT_S = 0.5
"""Processor time for all searches of one model call. Usual expressions take a few ms."""
LENGTH_MAX = 1_000
SIZE_MAX = 2_000
"""The limit for an expression with its repetitions written out, as it is kept in memory."""
SEARCHED_MAX = 100_000
"""Characters. Backtracking in longer texts takes hundreds of megabytes."""

_TOO_LONG = (
    f"is too long: it may have {LENGTH_MAX} characters, and {SIZE_MAX} with repetitions such as "
    "(abc){100} written out"
)
_QUOTED_CHARACTERS = 200
_REPEAT = re.compile(r"(.?)\{\s*(\d+)", re.DOTALL)
_VERBOSE = re.compile(r"\(\?[^():<>=!]*x")


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

    # Before anything else reads it.
    if len(pattern) > LENGTH_MAX:
        raise PatternInvalid(_TOO_LONG)
    if _VERBOSE.search(pattern):
        if "#" in pattern:
            raise PatternInvalid("has a # in a verbose part, which is not supported")
        # In a verbose pattern a number may contain white space.
        bare = "".join(pattern.split())
    else:
        bare = pattern
    if max(size(pattern), size(bare)) > SIZE_MAX:
        raise PatternInvalid(_TOO_LONG)
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
    """Returns the template. Raises TemplateInvalid if it is invalid."""
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
    # Imported here because few servers have a script.
    from jinja2 import Environment, TemplateSyntaxError, nodes

    if len(template) > TEMPLATE_MAX:
        raise TemplateInvalid(f"is not a valid template: more than {TEMPLATE_MAX:,} characters")
    try:
        # Only parsed: what Jinja would compile could take any time and memory.
        body = Environment(keep_trailing_newline=True).parse(template).body  # noqa: S701 - no HTML
    except TemplateSyntaxError as error:
        raise _invalid(error.lineno, str(error.message)) from None
    except RecursionError:
        raise _invalid(1, "it is nested too deeply") from None
    except ValueError as error:
        raise _invalid(1, str(error)) from None
    parts = (part for each in body for part in getattr(each, "nodes", None) or [each])
    return tuple(
        part.data if isinstance(part, nodes.TemplateData) else _slot(part) for part in parts
    )


def _slot(node: nodes.Node) -> _Slot:
    from jinja2 import nodes

    line, filters = node.lineno, list[tuple[str, str | None]]()
    while isinstance(node, nodes.Filter) and node.node is not None:
        match node:
            case nodes.Filter(name="default", args=[nodes.Const(value=str(text))], kwargs=[]):
                filters.insert(0, ("default", text))
            case nodes.Filter(name=name, args=[], kwargs=[]) if name in _FILTERS:
                filters.insert(0, (name, None))
            case _:
                raise _invalid(line, f"{node.name!r} is not a known filter, or has another form")
        node = node.node
    if len(filters) > FILTERS_MAX:
        raise _invalid(line, "there are too many filters")
    of_groups = nodes.Name("groups", "load")
    match node:
        case nodes.Const(value=str(text)):
            return _Slot(None, text, tuple(filters))
        case nodes.Name(name=name) if name in NAMES and node != of_groups:
            return _Slot(name, None, tuple(filters))
        case nodes.Getattr(node=groups, attr=key) if groups == of_groups:
            return _Slot("groups", key, tuple(filters))
        case nodes.Getitem(node=groups, arg=nodes.Const(value=str(key) | int(key))) if (
            groups == of_groups
        ):
            return _Slot("groups", key, tuple(filters))
    what = f"{node.name!r}" if isinstance(node, nodes.Name) else type(node).__name__
    raise _invalid(line, f"{what} is not supported")


def _invalid(line: int, reason: str) -> TemplateInvalid:
    return TemplateInvalid(f"is not a valid template, line {line}: {reason}. {SYNTAX}")
