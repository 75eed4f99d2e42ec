"""A document of JSON that a person types: reading it, and finding a path's line in it (pure)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.requests import InputInvalid
from chowder_local.http.bodies import json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from chowder_local.core.errors.agents import Problem

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_UNKNOWN_KEYS = re.compile(r"Unrecognized keys?: (.+)", re.DOTALL)


@dataclass(frozen=True)
class Placed:
    """What is wrong, and in which line of what was typed, if that is known."""

    words: str
    path: str = ""
    line: int | None = None


def read_document(text: str) -> dict[str, Any] | Placed:
    """The object that was typed, or why it is none."""
    try:
        document = json_of(text.encode())
    except InputInvalid as invalid:
        (problem,) = invalid.problems
        position = next((each for each in problem["loc"] if isinstance(each, int)), None)
        return Placed(problem["msg"], line=None if position is None else _line(text, position))
    if not isinstance(document, dict):
        return Placed("A configuration is one object, in braces.", line=1)
    seen: set[tuple[str, ...]] = set()
    for path, line in _places(text):
        # JSON's own reader takes the last one and says nothing.
        if path in seen:
            return Placed("This is there twice.", ".".join(path), line)
        seen.add(path)
    return document


def placed(text: str, problems: Iterable[Problem]) -> list[Placed]:
    """Problems with the lines that they are about, or that of what they are in."""
    lines: dict[str, int] = {}
    for path, line in _places(text):
        lines.setdefault(".".join(path), line)
    found = [Placed(each.words, each.path, _line_of(lines, each)) for each in problems]
    return sorted(found, key=lambda each: each.line or 0)


def _line_of(lines: dict[str, int], problem: Problem) -> int | None:
    path = problem.path
    for key in _unknown_keys(problem.words):
        named = f"{path}.{key}" if path else key
        if named in lines:
            return lines[named]
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)


def _unknown_keys(words: str) -> Sequence[str]:
    found = _UNKNOWN_KEYS.match(words)
    return re.findall(r'"([^"]*)"', found[1]) if found else ()


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _places(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The path of each member and item of a document that is known to be JSON, and its line."""
    path: list[Any] = []
    line, at, is_key = 1, 0, False
    for token in _TOKEN.finditer(text):
        line, at, said = line + text.count("\n", at, token.start()), token.start(), token[0]
        is_in_list = bool(path) and isinstance(path[-1], int)
        if (is_key and said.startswith('"')) or (is_in_list and said not in "],"):
            path[-1] = json.loads(said) if is_key else path[-1]
            yield tuple(map(str, path)), line
        is_key = said == "{" or (said == "," and not is_in_list)
        if said in {"{", "["}:
            path.append("" if said == "{" else 0)
        elif said in {"}", "]"}:
            path.pop()
        elif said == "," and is_in_list:
            path[-1] += 1
