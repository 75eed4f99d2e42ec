"""Reads a script of replies from a file, in YAML or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.errors.process import SettingsInvalid
from chowder_local.relay.scripts.parser import TextInvalid, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from chowder_local.relay.scripts.parser import Problem
    from chowder_local.relay.scripts.rules import ReplyScript


def read(path: Path) -> ReplyScript:
    """The file's script; blocks. Raises SettingsInvalid, which says what is wrong and where."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The replies in {path} cannot be read: {error}") from None
    try:
        return parsed(text)
    except TextInvalid as invalid:
        problems = "\n".join(f"  {_locate(path, each)}" for each in invalid.problems)
        wrong = "make no sense" if invalid.is_yaml else "are no YAML"
        raise SettingsInvalid(f"The replies in {path} {wrong}:\n{problems}") from None


def _locate(path: Path, problem: Problem) -> str:
    """A problem on a line of its own, which an editor can jump to."""
    where = str(path) if problem.line is None else f"{path}:{problem.line}"
    return ": ".join(filter(None, (where, problem.place, problem.words)))
