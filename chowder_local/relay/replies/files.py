"""Reads a script of replies from a file, in YAML or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from chowder_local.errors.process import SettingsInvalid
from chowder_local.relay.replies.rules import ReplyScript

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> ReplyScript:
    """The file's script; blocks. Raises SettingsInvalid, which says what is wrong and where."""
    # Few servers are started with a file.
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The replies in {path} cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsInvalid(f"The replies in {path} are no YAML: {error}") from None
    try:
        # Plain rules without a head are what one begins with.
        return ReplyScript.model_validate(
            {"replies": content} if isinstance(content, list) else content or {}
        )
    except ValidationError as invalid:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in invalid.errors()
        )
        raise SettingsInvalid(f"The replies in {path} make no sense: {problems}.") from None
