"""Parses reply scripts in YAML or JSON, with the line of each problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.core.untrusted_json import written_path
from chowder_local.relay.scripts.rules import ReplyScript

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from yaml import Node


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
    from chowder_local.core import untrusted_yaml

    try:
        node = untrusted_yaml.compose(text)
        content = untrusted_yaml.construct(node)
    except untrusted_yaml.YamlInvalid as invalid:
        raise TextInvalid([Problem(str(invalid), "", invalid.line)], is_yaml=False) from None
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


def _line(node: Node | None, place: Sequence[str | int]) -> int | None:
    """The line of the nearest node to a place, which may have steps that are not in the text."""
    from chowder_local.core.untrusted_yaml import parts

    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for step in place:
        for name, at, value in parts(node):
            if name == str(step):
                node, line = value, at.start_mark.line + 1
                break
    return line
