"""The smallest arguments a schema allows."""

from typing import Any

import pytest

from chowder_local.relay.offline.arguments import minimal


def test_only_required_properties_are_given() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
        "required": ["city"],
    }

    assert minimal(schema) == {"city": "text"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 1),
        ({"type": "number", "minimum": 7}, 7),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": "STRING"}, "text"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": ["string", "null"]}, "text"),
        ({"type": []}, "text"),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "array", "minItems": 1}, [""]),
        ({"enum": ["c", "f"]}, "c"),
        ({"const": 5}, 5),
        ({"default": "d", "type": "string"}, "d"),
        ({"examples": ["Paris"]}, "Paris"),
        ({"anyOf": [{"type": "boolean"}, {"type": "string"}]}, False),
        ({"properties": {"x": {"type": "integer"}}, "required": ["x"]}, {"x": 1}),
        ({"type": "object"}, {}),
        (True, ""),
    ],
)
def test_each_type_gets_its_plainest_value(schema: Any, value: Any) -> None:
    assert minimal({"properties": {"it": schema}, "required": ["it"]}) == {"it": value}


def test_a_schema_without_properties_gets_empty_values() -> None:
    assert minimal({}) == {}
    assert minimal({"required": ["a"], "properties": True}) == {"a": ""}


def test_a_schema_within_itself_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "required": ["next"]}
    schema["properties"] = {"next": schema}

    assert "next" in minimal(schema)
