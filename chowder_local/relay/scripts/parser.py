"""Parses reply scripts in YAML or JSON, with the line of each problem."""

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
"""Aliases count each time that they are used: a few lines of YAML can stand for millions."""
DEPTH_MAX = 100


@dataclass(frozen=True)
class Problem:
    """A problem, its place in the script such as `replies.0.reply`, and its line if known."""

    message: str
    place: str = ""
    line: int | None = None


class TextInvalid(Exception):
    """A text is not valid YAML, or not a valid script."""

    def __init__(self, problems: Sequence[Problem], *, is_yaml: bool = True) -> None:
        super().__init__("; ".join(f"{each.place}: {each.message}" for each in problems))
        self.problems = problems
        self.is_yaml = is_yaml


def read_file(path: Path) -> ReplyScript:
    """The script in a file; blocks. Raises SettingsInvalid if it is unreadable or invalid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The replies in {path} cannot be read: {error}") from None
    try:
        return parse(text)
    except TextInvalid as invalid:
        problems = "\n".join(f"  {_locate(path, each)}" for each in invalid.problems)
        cause = "are invalid" if invalid.is_yaml else "are not valid YAML"
        raise SettingsInvalid(f"The replies in {path} {cause}:\n{problems}") from None


def _locate(path: Path, problem: Problem) -> str:
    """A problem as `path:line: place: message`, which editors can jump to."""
    where = str(path) if problem.line is None else f"{path}:{problem.line}"
    return ": ".join(filter(None, (where, problem.place, problem.message)))


def parse(text: str) -> ReplyScript:
    """The script in a text; takes seconds for megabytes. Raises TextInvalid if it is invalid."""
    # Imported here because few servers have a script.
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _count(node)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        message = " ".join(filter(None, (error.context, error.problem)))
        raise TextInvalid([Problem(message, "", line)], is_yaml=False) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise TextInvalid([Problem(str(error))], is_yaml=False) from error
    # A list of rules alone is a script, too.
    script = {"replies": content} if isinstance(content, list) else content or {}
    try:
        return ReplyScript.model_validate(script)
    except ValidationError as invalid:
        head = ("replies",) if isinstance(content, list) else ()
        problems = [
            Problem(
                message=problem["msg"],
                place=".".join(map(str, written_path(script, problem["loc"], problem["type"]))),
                line=_line(node, problem["loc"][len(head) :]),
            )
            for problem in invalid.errors()
        ]
        raise TextInvalid(problems) from None


def _line(node: Any, place: Sequence[str | int]) -> int | None:
    """The line of the nearest node to a place, which may have steps that are not in the text."""
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
    """The children of a node: the name of each, with its key node and its value node."""
    for number, each in enumerate(node.value):
        if isinstance(each, tuple):
            yield str(each[0].value), each
        else:
            yield str(number), (each, each)


def _count(node: Any) -> None:
    pending = [(node, 1)]
    count = 0
    while pending:
        each, depth = pending.pop()
        count += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"it is nested deeper than {DEPTH_MAX} levels")
        if count > VALUES_MAX:
            raise ValueError(f"it has more than {VALUES_MAX} values")
        if not isinstance(each.value, str):
            pending += [(part, depth + 1) for _, pair in _parts(each) for part in set(pair)]
