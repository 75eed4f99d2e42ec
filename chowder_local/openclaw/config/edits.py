"""The part of an agent's configuration that users see, and the patches that edits make (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import ConfigRefused, Problem
from chowder_local.openclaw.config import reserved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Path = tuple[str, ...]

HIDDEN = "__OPENCLAW_REDACTED__"
"""OpenClaw's placeholder for a secret; in a patch it means the current value."""

_MOVED = f"{HIDDEN} stands for a hidden value of another path: write the value itself."
_IN_LIST = f"A list is replaced as a whole: write the values themselves in place of {HIDDEN}."


def visible_config(source: Mapping[str, Any]) -> dict[str, Any]:
    """OpenClaw's view of a configuration, without reserved paths and environment values.

    OpenClaw itself hides known secrets. In environments it hides only values with names like KEY,
    so all values of the agent's and the skills' environments are hidden here.
    """
    visible = reserved.without_reserved(source)
    _hide(visible.get("env"), "vars")
    skills = visible.get("skills")
    entries = skills.get("entries") if isinstance(skills, dict) else None
    for entry in entries.values() if isinstance(entries, dict) else ():
        _hide(entry, "env")
    return visible


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch from one configuration to another, without values hidden in both.

    Raises ConfigRefused if a placeholder is at a path where `before` has no hidden value.
    """
    if problems := list(_misplaced(before, after, ())):
        raise ConfigRefused("; ".join(map(str, problems)), problems)
    return merge_patch_between(before, after)


def merge_patch_between(
    before: Mapping[str, Any], after: Mapping[str, Any], above: Path = ()
) -> dict[str, Any]:
    """The merge patch from one configuration to another, without that check; null deletes."""
    patch: dict[str, Any] = {}
    for key in [*before, *(each for each in after if each not in before)]:
        path, old = (*above, key), before.get(key)
        if key in after and _is_same(old, new := after[key]) and key in before:
            continue
        if key not in after:
            # The object may have reserved members, which must stay, so delete the others singly.
            has_reserved = isinstance(old, dict) and old and reserved.is_reserved(path)
            patch[key] = merge_patch_between(dict(old or {}), {}, path) if has_reserved else None
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
    """Equality of JSON values, where true is not 1."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_is_same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_same, old, new))
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _misplaced(before: Any, after: Any, path: Path) -> Iterator[Problem]:
    if isinstance(after, dict):
        members = before if isinstance(before, dict) else {}
        for key, value in after.items():
            yield from _misplaced(members.get(key), value, (*path, key))
    elif isinstance(after, list):
        # A changed list does not tell which item a placeholder stands for.
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
