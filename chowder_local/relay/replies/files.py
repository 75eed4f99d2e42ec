"""Reads a script of replies from a file, in YAML or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.errors.process import SettingsInvalid
from chowder_local.relay.replies.texts import TextInvalid, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from chowder_local.relay.replies.rules import ReplyScript


def read(path: Path) -> ReplyScript:
    """The file's script; blocks. Raises SettingsInvalid, which says what is wrong and where."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The replies in {path} cannot be read: {error}") from None
    try:
        return parsed(text)
    except TextInvalid as invalid:
        if not invalid.is_yaml:
            # YAML's own words have the lines in them.
            raise SettingsInvalid(
                f"The replies in {path} are no YAML: {invalid.__cause__}"
            ) from None
        raise SettingsInvalid(f"The replies in {path} make no sense: {invalid}.") from None
