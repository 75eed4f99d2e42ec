"""Paths of problems in JSON or YAML, in the writer's own names (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MISSING = "missing"
"""pydantic's type of the problem that a member is missing."""


def written_path(content: Any, location: Sequence[str | int], kind: str) -> list[str | int]:
    """The steps of pydantic's `location` that exist in `content`, without names of union members.

    `kind` is the problem's type: the last step of a missing member stays.
    """
    steps: list[str | int] = []
    for number, step in enumerate(location, start=1):
        exists = (isinstance(content, dict) and step in content) or (
            isinstance(content, list) and isinstance(step, int) and step < len(content)
        )
        if exists:
            content = content[step]
        if exists or (kind == MISSING and number == len(location)):
            steps.append(step)
    return steps
