"""What two sides have changed since they were last seen alike (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Change(StrEnum):
    """Where something was changed; there is none where both sides are the same."""

    HERE = "changed here"
    THERE = "changed there"
    BOTH = "changed here and there"
    """A conflict, unless both sides changed it to the same."""


def compare(
    base: Mapping[str, Any],
    here: Mapping[str, Any],
    there: Mapping[str, Any],
    names: Iterable[str] | None = None,
) -> dict[str, Change]:
    """The changes by name, of all names or of these. What a side lacks is not in its mapping.

    What is not in `base` was never seen: it counts as added by the side that has it, and as a
    conflict if both sides have it.
    """
    changes = {}
    for name in names if names is not None else base.keys() | here.keys() | there.keys():
        former, ours, theirs = base.get(name), here.get(name), there.get(name)
        if ours != theirs:
            if ours == former:
                changes[name] = Change.THERE
            else:
                changes[name] = Change.HERE if theirs == former else Change.BOTH
    return changes
