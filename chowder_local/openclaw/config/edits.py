"""What a person sees of an agent's configuration, and what an edit of that changes (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import ConfigRefused, Problem
from chowder_local.openclaw.config import reserved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Path = tuple[str, ...]

HIDDEN = "__OPENCLAW_REDACTED__"
"""What OpenClaw shows in the place of a secret, and takes for the secret that is there."""

_MOVED = f"{HIDDEN} stands for a value that is hidden at another place: write the value itself."
_IN_LIST = f"A list is replaced as a whole, so write its values themselves where it has {HIDDEN}."


def visible_config(source: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as OpenClaw tells it, without what belongs to the server.

    OpenClaw hides what it knows for a secret. Of the agent's and its skills' environments it knows
    that of names like KEY only, so all values are hidden there.
    """
    visible = reserved.without_reserved(source)
    _hide(visible.get("env"), "vars")
    skills = visible.get("skills")
    entries = skills.get("entries") if isinstance(skills, dict) else None
    for entry in entries.values() if isinstance(entries, dict) else ():
        _hide(entry, "env")
    return visible


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes one of the other; what is hidden in both is no part of it.

    Raises ConfigRefused where something hidden would be taken for something else.
    """
    if problems := list(_misplaced(before, after, ())):
        raise ConfigRefused("; ".join(map(str, problems)), problems)
    return merge_patch_between(before, after)


def merge_patch_between(
    before: Mapping[str, Any], after: Mapping[str, Any], above: Path = ()
) -> dict[str, Any]:
    """The merge patch that makes one configuration of another, whatever is hidden; null deletes."""
    patch: dict[str, Any] = {}
    for key in [*before, *(each for each in after if each not in before)]:
        path, old = (*above, key), before.get(key)
        if key in after and _is_same(old, new := after[key]) and key in before:
            continue
        if key not in after:
            # What is not shown may be there as well, and is not to go with it.
            may_have_more = isinstance(old, dict) and old and reserved.is_held(path)
            patch[key] = merge_patch_between(dict(old or {}), {}, path) if may_have_more else None
        elif isinstance(old, dict) and isinstance(new, dict):
            patch[key] = merge_patch_between(old, new, path)
        else:
            patch[key] = new
    return patch


def changed_paths(patch: Mapping[str, Any]) -> Iterator[str]:
    """The dotted paths that a merge patch sets or removes."""
    for names, _ in reserved.leaves(patch):
        yield ".".join(names)


def _hide(holder: Any, name: str) -> None:
    if isinstance(holder, dict) and isinstance(holder.get(name), dict):
        holder[name] = dict.fromkeys(holder[name], HIDDEN)


def _is_same(old: Any, new: Any) -> bool:
    """As JSON has it: to Python true is 1."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_is_same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_same, old, new))
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _misplaced(before: Any, after: Any, path: Path) -> Iterator[Problem]:
    if isinstance(after, dict):
        known = before if isinstance(before, dict) else {}
        for key, value in after.items():
            yield from _misplaced(known.get(key), value, (*path, key))
    elif isinstance(after, list):
        # Which of its items is which, nobody can tell.
        if not _is_same(before, after) and _has_hidden(after):
            yield Problem(".".join(path), _IN_LIST)
    elif after == HIDDEN and before != HIDDEN:
        yield Problem(".".join(path), _MOVED)


def _has_hidden(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_hidden, value.values()))
    if isinstance(value, list):
        return any(map(_has_hidden, value))
    return bool(value == HIDDEN)
