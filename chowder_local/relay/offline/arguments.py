"""The smallest arguments that a tool's JSON schema lets pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_DEPTH = 8


def minimal(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the required properties, each with the plainest value of its type."""
    return _object(schema, _MAX_DEPTH)


def _object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    return {name: _value(known.get(name), depth - 1) for name in schema.get("required") or []}


def _value(schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth <= 0:
        return ""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _value(schema[key][0], depth - 1)
    return _of_type(schema, depth)


def _of_type(schema: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    # Gemini's schemas shout their types.
    kind = str(kind or ("object" if "properties" in schema else "string")).lower()
    if kind == "object":
        return _object(schema, depth)
    if kind == "array":
        return [_value(schema.get("items"), depth - 1)] * int(schema.get("minItems") or 0)
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    plain: dict[str, Any] = {"boolean": False, "null": None}
    return plain.get(kind, "text"[: schema.get("maxLength")])
