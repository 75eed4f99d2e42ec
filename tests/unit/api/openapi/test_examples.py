"""Examples that are made from a schema."""

from __future__ import annotations

from typing import Any

from chowder_local.api.openapi.document import TIME, UNKNOWN, UUID, example_of

ITEM = {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}},
        "required": ["id"]}  # fmt: skip


SCHEMAS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "string", "examples": ["a", "b"], "default": "c"}, "a"),
    ({"type": "string", "example": "a"}, "a"),
    ({"enum": ["a", "b"]}, "a"),
    ({"const": "a"}, "a"),
    ({"type": "string", "default": "a"}, "a"),
    ({"anyOf": [{"type": "integer", "examples": [5]}, {"type": "null"}], "default": None}, 5),
    ({"anyOf": [{"type": "integer"}], "examples": [None]}, None),
    ({"type": "string", "format": "uuid"}, UUID),
    ({"type": "string", "format": "date-time"}, TIME),
    ({"type": "integer"}, 1),
    ({"type": "boolean"}, True),
    ({"type": "array", "items": {"type": "integer"}}, [1]),
    ({"type": "array"}, []),
    ({"type": "string"}, UNKNOWN),
    ({"$ref": "#/components/schemas/Item"}, {"id": UUID}),
    ({}, {}),
]


def test_an_example_is_the_first_that_the_schema_has() -> None:
    made = [(schema, example_of(schema, {"Item": ITEM})) for schema, _ in SCHEMAS]
    assert made == SCHEMAS


def test_an_object_has_its_required_members_and_those_with_examples() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "examples": ["Ada"]},
            "size": {"type": "integer"},
            "note": {"type": "string", "default": "none"},
            "tags": {"type": "array", "items": {"type": "string"}, "examples": [["a"]]},
        },
        "required": ["name", "size"],
        "anyOf": [{"required": ["tags"]}],
    }
    assert example_of(schema, {}) == {"name": "Ada", "size": 1, "tags": ["a"]}
