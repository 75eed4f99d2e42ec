"""Makes an example of a JSON schema's content from the examples of its fields (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

UUID = "3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d"
TIME = "2026-05-04T03:02:01Z"
UNKNOWN = "string"
"""The example of a string that has none of its own."""

_BY_FORMAT = {"uuid": UUID, "date-time": TIME, "uri": "http://127.0.0.1:2469/"}
_BY_TYPE: Mapping[str, Any] = {"string": UNKNOWN, "integer": 1, "number": 1.0, "boolean": True}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """The example; `schemas` has the schemas of `$ref`, by the last part of its path."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rsplit("/", 1)[-1]], schemas)
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    for keyword in ("example", "const", "default"):
        if schema.get(keyword) is not None:
            return schema[keyword]
    if "anyOf" in schema and "properties" not in schema:
        return example_of(schema["anyOf"][0], schemas)
    return _of_type(schema, schemas)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    kind = schema.get("type", "object")
    if kind == "array":
        return [example_of(schema["items"], schemas)] if "items" in schema else []
    if kind == "object":
        required = schema.get("required", ())
        return {
            name: example_of(member, schemas)
            for name, member in schema.get("properties", {}).items()
            if name in required or "examples" in member
        }
    return _BY_FORMAT.get(schema.get("format", ""), _BY_TYPE.get(kind))
