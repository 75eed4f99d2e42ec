"""Reads a script of replies from text, in YAML or JSON, and says where it makes no sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.json_paths import written_path
from chowder_local.relay.scripts.rules import ReplyScript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

VALUES_MAX = 100_000
"""With what is only referred to counted each time: a few lines can name millions."""
DEPTH_MAX = 100


@dataclass(frozen=True)
class Problem:
    """What is wrong, where in the script, and at which line; None if nobody knows."""

    words: str
    place: str = ""
    line: int | None = None


class TextInvalid(Exception):
    """A text is no YAML, or no script."""

    def __init__(self, problems: Sequence[Problem], *, is_yaml: bool = True) -> None:
        super().__init__("; ".join(f"{each.place}: {each.words}" for each in problems))
        self.problems = problems
        self.is_yaml = is_yaml


def read_file(path: Path) -> ReplyScript:
    """The file's script; blocks. Raises SettingsInvalid, which says what is wrong and where."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The replies in {path} cannot be read: {error}") from None
    try:
        return parse(text)
    except TextInvalid as invalid:
        problems = "\n".join(f"  {_locate(path, each)}" for each in invalid.problems)
        wrong = "make no sense" if invalid.is_yaml else "are no YAML"
        raise SettingsInvalid(f"The replies in {path} {wrong}:\n{problems}") from None


def _locate(path: Path, problem: Problem) -> str:
    """A problem on a line of its own, which an editor can jump to."""
    where = str(path) if problem.line is None else f"{path}:{problem.line}"
    return ": ".join(filter(None, (where, problem.place, problem.words)))


def parse(text: str) -> ReplyScript:
    """The script; takes seconds for megabytes. Raises TextInvalid."""
    # Few servers are given one.
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _count(node)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        words = " ".join(filter(None, (error.context, error.problem)))
        raise TextInvalid([Problem(words, "", line)], is_yaml=False) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise TextInvalid([Problem(str(error))], is_yaml=False) from error
    # Plain rules without a head are what one begins with.
    script = {"replies": content} if isinstance(content, list) else content or {}
    try:
        return ReplyScript.model_validate(script)
    except ValidationError as invalid:
        head = ("replies",) if isinstance(content, list) else ()
        problems = [
            Problem(
                words=problem["msg"],
                place=".".join(map(str, written_path(script, problem["loc"], problem["type"]))),
                line=_line(node, problem["loc"][len(head) :]),
            )
            for problem in invalid.errors()
        ]
        raise TextInvalid(problems) from None


def _line(node: Any, place: Sequence[str | int]) -> int | None:
    """Where the nearest thing to a place begins; a place may name kinds, which no text has."""
    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for step in place:
        if isinstance(node.value, str):
            break
        for name, (at, value) in _parts(node):
            if name == str(step):
                node, line = value, at.start_mark.line + 1
                break
    return line


def _parts(node: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What is in a node: by its name, where it is told of, and what it is."""
    for number, each in enumerate(node.value):
        if isinstance(each, tuple):
            yield str(each[0].value), each
        else:
            yield str(number), (each, each)


def _count(node: Any) -> None:
    waiting = [(node, 1)]
    count = 0
    while waiting:
        each, depth = waiting.pop()
        count += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"it is nested deeper than {DEPTH_MAX} levels")
        if count > VALUES_MAX:
            raise ValueError(f"it has more than {VALUES_MAX} values")
        if not isinstance(each.value, str):
            waiting += [(part, depth + 1) for _, pair in _parts(each) for part in set(pair)]
