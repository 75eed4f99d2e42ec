"""The smallest arguments a schema allows."""

from typing import Any

import jsonschema_rs
import pytest

from chowder_local.relay.offline_model import fits, minimal


def test_only_required_properties_are_given() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
        "required": ["city"],
    }

    assert minimal(schema) == {"city": "text"}


PLAINEST: list[tuple[Any, Any]] = [
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
]


def test_each_type_gets_its_simplest_value() -> None:
    made = [
        (schema, minimal({"properties": {"it": schema}, "required": ["it"]}))
        for schema, _ in PLAINEST
    ]
    assert made == [(schema, {"it": value}) for schema, value in PLAINEST]


def test_a_schema_without_properties_gets_empty_values() -> None:
    assert minimal({}) == {}
    assert minimal({"required": ["a"], "properties": True}) == {"a": ""}


def test_a_schema_within_itself_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "required": ["next"]}
    schema["properties"] = {"next": schema}

    assert "next" in minimal(schema)


ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TREE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "parent": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
    },
    "required": ["name", "parent", "kids"],
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "numbers": {
        "a": {"type": "integer", "minimum": 3},
        "b": {"type": "integer", "exclusiveMinimum": 3},
        "c": {"type": "integer", "maximum": -3},
        "d": {"type": "integer", "exclusiveMaximum": 1},
        "e": {"type": "integer", "multipleOf": 7},
        "f": {"type": "number", "minimum": 0.2, "maximum": 0.9},
        "g": {"type": "integer", "minimum": 10, "multipleOf": 4},
        "h": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "i": {"type": ["number", "null"], "maximum": 0.5},
    },
    "strings": {
        "a": {"type": "string", "minLength": 9},
        "b": {"type": "string", "maxLength": 1},
        **{
            kind.replace("-", ""): {"type": "string", "format": kind}
            for kind in [
                "date",
                "date-time",
                "time",
                "duration",
                "email",
                "hostname",
                "ipv4",
                "ipv6",
                "uri",
                "uuid",
            ]
        },
    },
    "arrays": {
        "a": {"type": "array", "items": ADDRESS, "minItems": 2},
        "b": {"type": "array", "items": {"type": "array", "items": ADDRESS, "minItems": 1}},
        "c": {
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "integer"}],
            "minItems": 2,
        },
    },
    "choices": {
        "a": {"oneOf": [{"const": "x"}, {"const": "y"}]},
        "b": {
            "allOf": [ADDRESS, {"properties": {"zip": {"type": "integer"}}, "required": ["zip"]}]
        },
        "c": {"allOf": [{"$ref": "#/$defs/address"}]},
        "e": {"allOf": [{"type": "integer"}, {"minimum": 3}]},
        "d": {"enum": [None, 1]},
    },
    "references": {
        "a": {"$ref": "#/$defs/address"},
        "b": {"$ref": "#/$defs/tree"},
        "c": {"type": "object", "minProperties": 1, "properties": {"x": {"type": "integer"}}},
        "d": {"$ref": "#/$defs/a~1b"},
    },
}


@pytest.mark.parametrize("properties", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_the_minimal_object_satisfies_the_schema(properties: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        "$defs": {"address": ADDRESS, "tree": TREE, "a/b": {"type": "boolean"}},
    }
    judge = jsonschema_rs.validator_for(schema, validate_formats=True)
    problems = [f"{each.instance_path}: {each}" for each in judge.iter_errors(minimal(schema))]
    assert problems == []


def test_a_schema_that_is_its_own_root_ends() -> None:
    schema = {**TREE, "$defs": {"tree": {"$ref": "#"}}}
    assert minimal(schema)["kids"] == []


def test_an_object_fits_if_it_has_all_required_and_only_known_members() -> None:
    assert fits(ADDRESS, {"city": 5})
    assert not fits(ADDRESS, {})
    assert not fits(ADDRESS, {"city": 5, "zip": 1})
    assert not fits({}, {"x": 1})
