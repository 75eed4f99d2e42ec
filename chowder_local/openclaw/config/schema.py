"""Checks overrides against OpenClaw's JSON schema of its configuration (pure)."""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Path = tuple[str, ...]

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


def find_problems(schema: Mapping[str, Any], patch: Mapping[str, Any]) -> list[Problem]:
    """The problems of a nested merge patch, worded as OpenClaw does; empty if there are none.

    It finds only certain problems: unknown keys, wrong types, and values outside of an enumeration
    or a range. OpenClaw itself does not enforce the rest of the schema in all cases.
    """
    return [Problem(".".join(path), message) for path, message in _problems(schema, patch, ())]


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
