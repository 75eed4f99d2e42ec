"""An agent's configuration as users see and edit it, and what of it is refused (pure)."""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import ConfigProblem, ConfigRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Path = tuple[str, ...]

RPC_PLUGIN = "admin-http-rpc"

_OWN = (
    # The gateway's address, token, endpoints and reloads.
    "gateway.",
    # The plugin that serves the server's control calls.
    f"plugins.entries.{RPC_PLUGIN}.",
    # The relay's address and token.
    "models.providers.chowder-",
)
"""Lower-case prefixes of dotted paths that the server sets in every configuration."""

_FORBIDDEN = (
    # Another plugin of the same name would replace the server's.
    "plugins.load.",
    # OpenClaw's own metadata: a newer version there would keep OpenClaw from starting.
    "meta.",
    # Variables that the sandbox sets; OpenClaw reads both spellings.
    *(
        f"env.{below}{name}"
        for below in ("", "vars.")
        for name in ("openclaw_", "clawhub_url.", "node_", "home.")
    ),
)
"""Prefixes of paths that nobody may set."""
_FREE = "env.vars.openclaw_trajectory."
"""Has OpenClaw log each run in its trajectories; the image's default is not to."""

SYSTEM_PROMPT = ("agent", "system_prompt")
"""A setting in an example of the hosted service's documentation."""

_ROUTES = {"api", "v1", "startupz", "readyz", "healthz"}
"""The first segments of the gateway's routes that the server calls."""


def check_reserved(patch: Mapping[str, Any]) -> None:
    """Raises ConfigRefused if a nested merge patch sets a reserved path; the error names it."""
    for names, value in leaves(patch):
        if reason := _refusal(names, value):
            path = ".".join(names)
            problem = ConfigProblem(path, f"It {reason}")
            raise ConfigRefused(f"The configuration path {path!r} {reason}", [problem])


def without_reserved(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without everything that `check_reserved` refuses."""
    return _filtered(nested, lambda names, value: _refusal(names, value) is None, ())


def only_reserved(nested: Mapping[str, Any]) -> dict[str, Any]:
    """The reserved part of a configuration, which belongs to one sandbox."""
    return _filtered(nested, lambda names, _: is_reserved(names), ())


def leaves(nested: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The paths that a merge patch sets or removes, with their new values."""
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _filtered(
    nested: Mapping[str, Any], is_kept: Callable[[Path, Any], bool], above: Path
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in nested.items():
        names = (*above, key)
        if isinstance(value, dict) and value:
            if below := _filtered(value, is_kept, names):
                kept[key] = below
        elif is_kept(names, value):
            kept[key] = value
    return kept


def _refusal(names: Path, value: Any) -> str | None:
    if names == SYSTEM_PROMPT:
        return (
            "is no setting of OpenClaw. Write the text to the agent's file workspace/SOUL.md, which"
            " counts from the next message on, or send it as `instructions` with each message."
        )
    if is_reserved(names):
        return "belongs to chowder-local and cannot be set."
    if _turns_plugin_off(names, value):
        return f"cannot have this value: chowder-local needs the plugin {RPC_PLUGIN}."
    if _takes_route(names, value):
        return "cannot have this value: chowder-local calls the gateway at that address."
    return None


def is_reserved(names: Path) -> bool:
    """Whether a path is reserved, or is above a path that the server sets."""
    # OpenClaw trims and lower-cases some names.
    path = "".join(f"{name.strip().lower()}." for name in names)
    if path.startswith((*_OWN, *_FORBIDDEN)) and path != _FREE:
        return True
    return any(own.startswith(path) for own in _OWN)


def _turns_plugin_off(names: Path, value: Any) -> bool:
    if value is None or names[0] != "plugins":
        return False
    is_listed = isinstance(value, list) and RPC_PLUGIN in value
    return (
        (names == ("plugins", "enabled") and value is not True)
        or (names == ("plugins", "allow") and not is_listed)
        or (names == ("plugins", "deny") and is_listed)
    )


def _takes_route(names: Path, value: Any) -> bool:
    """Whether a webhook's path would receive the server's own calls."""
    if not isinstance(value, str) or names[0] not in {"channels", "hooks", "plugins"}:
        return False
    if names[-1] not in {"path", "webhookPath", "callbackPath"}:
        return False
    return value.strip().strip("/").split("/")[0].lower() in _ROUTES


SCHEMA_FILE = "/opt/openclaw/config-schema.json"
"""Its path in the sandbox image, where the image build writes OpenClaw's schema."""

_FORMER = {"contextTokens", "contextWindow", "discovery"}
"""Former settings that the schema lacks, but that OpenClaw still accepts in a change."""

_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (operator.ge, "Too small: expected number to be >="),
    "exclusiveMinimum": (operator.gt, "Too small: expected number to be >"),
    "maximum": (operator.le, "Too big: expected number to be <="),
    "exclusiveMaximum": (operator.lt, "Too big: expected number to be <"),
}


def find_problems(schema: Mapping[str, Any], patch: Mapping[str, Any]) -> list[ConfigProblem]:
    """The problems of a nested merge patch, worded as OpenClaw does; empty if there are none.

    It finds only certain problems: unknown keys, wrong types, and values outside of an enumeration
    or a range. OpenClaw itself does not enforce the rest of the schema in all cases.
    """
    return [
        ConfigProblem(".".join(path), message) for path, message in _problems(schema, patch, ())
    ]


def _problems(schema: Any, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(schema, dict) or _is_unknown(schema, value):
        return
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        yield from _branch_problems(branches, value, path)
    elif message := _misfit(schema, value):
        yield path, message
    elif isinstance(value, dict):
        yield from _problems_inside(schema, value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(schema.get("items"), item, (*path, str(index)))


def _is_unknown(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether the value or the schema is substituted elsewhere, so that nothing can be checked."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict) and "$include" in value:
        return True
    return not schema.keys().isdisjoint({"$ref", "allOf"})


def _branch_problems(branches: Sequence[Any], value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """No problems if one branch matches; else those of the branch that is most likely meant."""
    results = [list(_problems(branch, value, path)) for branch in branches]
    if not all(results):
        return
    deeper = [problems for problems in results if all(len(at) > len(path) for at, _ in problems)]
    unknown = [problems for problems in results if problems[0][1].startswith("Unrecognized")]
    if len(likely := deeper or unknown) == 1:
        yield from likely[0]
        return
    allowed = [json.dumps(each) for branch in branches for each in _values(branch)]
    yield path, f"Invalid input (allowed: {', '.join(allowed)})" if allowed else "Invalid input"


def _problems_inside(
    schema: Mapping[str, Any], value: Mapping[str, Any], path: Path
) -> Iterator[tuple[Path, str]]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    unknown = []
    for key, below in value.items():
        if below is None:
            # A null deletes the setting.
            continue
        if key in properties or others is not False:
            yield from _problems(properties.get(key, others), below, (*path, key))
        elif key not in _FORMER:
            unknown.append(json.dumps(key, ensure_ascii=False))
    if unknown:
        keys = "key" if len(unknown) == 1 else "keys"
        yield path, f"Unrecognized {keys}: {', '.join(unknown)}"


def _misfit(schema: Mapping[str, Any], value: Any) -> str | None:
    """The problem of a value itself, apart from its members; None if there is none."""
    expected, received = schema.get("type"), _type_of(value)
    if isinstance(expected, str) and not _is_type(expected, value):
        wanted = "number" if expected == "integer" and received != "number" else expected
        return f"Invalid input: expected {wanted.replace('integer', 'int')}, received {received}"
    if (allowed := _values(schema)) and value not in allowed:
        options = "|".join(json.dumps(each, ensure_ascii=False) for each in allowed)
        prefix = (
            "Invalid option: expected one of" if len(allowed) > 1 else "Invalid input: expected"
        )
        return f"{prefix} {options}"
    if received == "number":
        for name, (holds, message) in _BOUNDS.items():
            if name in schema and not holds(value, schema[name]):
                return f"{message}{schema[name]}"
    return None


def _values(schema: Mapping[str, Any]) -> list[Any]:
    """The values of an enumeration; empty if the schema has none."""
    return [schema["const"]] if "const" in schema else list(schema.get("enum", []))


def _is_type(expected: str, value: Any) -> bool:
    if expected == "integer":
        # JSON has one number type, so 5.0 is an integer, too.
        return _type_of(value) == "number" and value % 1 == 0
    return _type_of(value) == expected


def _type_of(value: Any) -> str:
    """The name of a value's JSON type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


HIDDEN = "__OPENCLAW_REDACTED__"
"""OpenClaw's placeholder for a secret; in a patch it means the current value."""

_MOVED = f"{HIDDEN} stands for a hidden value of another path: write the value itself."
_IN_LIST = f"A list is replaced as a whole: write the values themselves in place of {HIDDEN}."


def visible_config(source: Mapping[str, Any]) -> dict[str, Any]:
    """OpenClaw's view of a configuration, without reserved paths and environment values.

    OpenClaw itself hides known secrets. In environments it hides only values with names like KEY,
    so all values of the agent's and the skills' environments are hidden here.
    """
    visible = without_reserved(source)
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
            has_reserved = isinstance(old, dict) and old and is_reserved(path)
            patch[key] = merge_patch_between(dict(old or {}), {}, path) if has_reserved else None
        elif isinstance(old, dict) and isinstance(new, dict):
            patch[key] = merge_patch_between(old, new, path)
        else:
            patch[key] = new
    return patch


def changed_paths(patch: Mapping[str, Any]) -> Iterator[str]:
    """The dotted paths that a merge patch sets or removes."""
    for names, _ in leaves(patch):
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


def _misplaced(before: Any, after: Any, path: Path) -> Iterator[ConfigProblem]:
    if isinstance(after, dict):
        members = before if isinstance(before, dict) else {}
        for key, value in after.items():
            yield from _misplaced(members.get(key), value, (*path, key))
    elif isinstance(after, list):
        # A changed list does not tell which item a placeholder stands for.
        if not _is_same(before, after) and _has_hidden(after):
            yield ConfigProblem(".".join(path), _IN_LIST)
    elif after == HIDDEN and before != HIDDEN:
        yield ConfigProblem(".".join(path), _MOVED)


def _has_hidden(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_hidden, value.values()))
    if isinstance(value, list):
        return any(map(_has_hidden, value))
    return bool(value == HIDDEN)
