"""What OpenClaw's own JSON schema of its configuration says of a user's overrides (pure)."""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Path = tuple[str, ...]

SCHEMA_FILE = "/opt/openclaw/config-schema.json"
"""Where the sandbox image has it, as OpenClaw said it when the image was built."""

_FORMER = {"contextTokens", "contextWindow", "discovery"}
"""Settings that are in no schema any more, and that OpenClaw takes in a change nevertheless."""

_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (operator.ge, "Too small: expected number to be >="),
    "exclusiveMinimum": (operator.gt, "Too small: expected number to be >"),
    "maximum": (operator.le, "Too big: expected number to be <="),
    "exclusiveMaximum": (operator.lt, "Too big: expected number to be <"),
}


def find_problems(schema: Mapping[str, Any], patch: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a nested merge patch, in OpenClaw's manner of words; empty if nothing.

    Only what can be told for sure: unknown keys, wrong types, values out of an enumeration or a
    range. What the schema says beyond that, OpenClaw does not always hold to itself.
    """
    return [Problem(".".join(path), message) for path, message in _problems(schema, patch, ())]


def _problems(schema: Any, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(schema, dict) or _is_open(schema, value):
        return
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        yield from _problems_of_all(branches, value, path)
    elif message := _misfit(schema, value):
        yield path, message
    elif isinstance(value, dict):
        yield from _problems_inside(schema, value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(schema.get("items"), item, (*path, str(index)))


def _is_open(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether nothing can be said: of a part that is put in elsewhere, on either side."""
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, dict) and "$include" in value:
        return True
    return not schema.keys().isdisjoint({"$ref", "allOf"})


def _problems_of_all(branches: Sequence[Any], value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """None if one branch fits; else those of the branch that was most likely meant."""
    tried = [list(_problems(branch, value, path)) for branch in branches]
    if not all(tried):
        return
    deeper = [problems for problems in tried if all(len(at) > len(path) for at, _ in problems)]
    unknown = [problems for problems in tried if problems[0][1].startswith("Unrecognized")]
    if len(likely := deeper or unknown) == 1:
        yield from likely[0]
        return
    allowed = [json.dumps(each) for branch in branches for each in _values(branch)]
    yield path, f"Invalid input (allowed: {', '.join(allowed)})" if allowed else "Invalid input"


def _problems_inside(
    schema: Mapping[str, Any], value: Mapping[str, Any], path: Path
) -> Iterator[tuple[Path, str]]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    unknown = []
    for key, below in value.items():
        if below is None:
            # It deletes what is there.
            continue
        if key in known or others is not False:
            yield from _problems(known.get(key, others), below, (*path, key))
        elif key not in _FORMER:
            unknown.append(json.dumps(key, ensure_ascii=False))
    if unknown:
        keys = "key" if len(unknown) == 1 else "keys"
        yield path, f"Unrecognized {keys}: {', '.join(unknown)}"


def _misfit(schema: Mapping[str, Any], value: Any) -> str | None:
    """What is wrong with a value itself, whatever is inside it."""
    expected, received = schema.get("type"), _type_of(value)
    if isinstance(expected, str) and not _is_type(expected, value):
        wanted = "number" if expected == "integer" and received != "number" else expected
        return f"Invalid input: expected {wanted.replace('integer', 'int')}, received {received}"
    if (allowed := _values(schema)) and value not in allowed:
        shown = "|".join(json.dumps(each, ensure_ascii=False) for each in allowed)
        many = "Invalid option: expected one of" if len(allowed) > 1 else "Invalid input: expected"
        return f"{many} {shown}"
    if received == "number":
        for name, (holds, message) in _BOUNDS.items():
            if name in schema and not holds(value, schema[name]):
                return f"{message}{schema[name]}"
    return None


def _values(schema: Mapping[str, Any]) -> list[Any]:
    """The only values that a schema allows; none if it is not about that."""
    return [schema["const"]] if "const" in schema else list(schema.get("enum", []))


def _is_type(expected: str, value: Any) -> bool:
    if expected == "integer":
        # JSON has one kind of number: 5.0 is one, too.
        return _type_of(value) == "number" and value % 1 == 0
    return _type_of(value) == expected


def _type_of(value: Any) -> str:
    """What JSON calls it; a boolean is no number there."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
