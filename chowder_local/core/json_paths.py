"""Where in JSON or YAML something is wrong, in the names that its writer used (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MISSING = "missing"
"""pydantic's type of a problem that is at the end of a path which is not there."""


def written_path(content: Any, location: Sequence[str | int], kind: str) -> list[str | int]:
    """The steps of pydantic's `location` which `content` has; its kinds of a union are left out.

    `kind` is the problem's type: the last step of a missing member stays.
    """
    steps: list[str | int] = []
    for number, step in enumerate(location, start=1):
        is_there = (isinstance(content, dict) and step in content) or (
            isinstance(content, list) and isinstance(step, int) and step < len(content)
        )
        if is_there:
            content = content[step]
        if is_there or (kind == MISSING and number == len(location)):
            steps.append(step)
    return steps
