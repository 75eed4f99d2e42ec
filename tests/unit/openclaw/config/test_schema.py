"""Problems that the schema check finds in overrides, and values that it accepts."""

from __future__ import annotations

from typing import Any

from chowder_local.openclaw.config.edits import find_problems


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
LEVEL = {"type": "string", "enum": ["low", "high"]}
SCHEMA = closed(
    name=STRING,
    seconds=INTEGER | {"exclusiveMinimum": 0, "maximum": 60},
    ratio=NUMBER | {"minimum": 0, "exclusiveMaximum": 1},
    enabled={"type": "boolean"},
    level=LEVEL,
    version={"type": "number", "const": 1},
    style={"anyOf": [{"const": "pretty"}, {"const": "plain"}]},
    model={"anyOf": [STRING, closed(primary=STRING, fallbacks={"type": "array", "items": STRING})]},
    secret={"anyOf": [STRING, {"oneOf": [closed(env=STRING), closed(file=STRING)]}]},
    tags={"type": "array", "items": STRING},
    pair={"type": "array", "items": [STRING, NUMBER]},
    entries={"type": "object", "additionalProperties": closed(alias=STRING)},
    needy=closed(here=STRING) | {"required": ["there"]},
    shaped={"type": "string", "pattern": "^a$", "minLength": 9, "format": "uri"},
    elsewhere={"$ref": "#/$defs/x", "type": "string"},
    both={"allOf": [closed(a=STRING), closed(b=STRING)]},
    open={"type": "object"},
    either={"type": ["string", "null"]},
    anything={},
)

GOOD: list[dict[str, Any]] = [
    {},
    {"name": "Ada", "seconds": 60, "ratio": 0, "enabled": False, "level": "low", "version": 1},
    {"seconds": 5.0, "ratio": 0.5},
    {"style": "plain"},
    {"model": "a"},
    {"model": {"primary": "a", "fallbacks": []}},
    {"secret": {"file": "a"}},
    {"tags": ["a", "b"], "pair": [1, 2]},
    {"entries": {"a.b/c": {"alias": "c"}}},
    {"open": {"a": [{"b": 1}]}, "anything": 5, "either": 5},
]
DELETED: list[dict[str, Any]] = [
    {"name": None, "nonsense": None, "model": {"primary": None}, "entries": {"a": None}},
]
NOT_TOLD: list[dict[str, Any]] = [
    # Substituted before OpenClaw validates.
    {"enabled": "${ENABLED}", "level": "${LEVEL}", "model": {"$include": "./model.json"}},
    # A missing member may be set already, or have a default.
    {"needy": {"here": "a"}},
    {"shaped": "b"},
    {"elsewhere": 5, "both": {"c": 1}},
    # OpenClaw migrates former names by itself.
    {"contextTokens": 5, "entries": {"a": {"contextWindow": 5}}},
]


def test_values_that_openclaw_may_accept_are_no_problem() -> None:
    judged = [(patch, find_problems(SCHEMA, patch)) for patch in GOOD + DELETED + NOT_TOLD]
    assert not [each for each in judged if each[1]]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"nonsense": 1}, '<root>: Unrecognized key: "nonsense"'),
    ({"entries": {"a": {"b": 1, "ü": 2}}}, 'entries.a: Unrecognized keys: "b", "ü"'),
    ({"name": 5}, "name: Invalid input: expected string, received number"),
    ({"enabled": 1}, "enabled: Invalid input: expected boolean, received number"),
    ({"ratio": True}, "ratio: Invalid input: expected number, received boolean"),
    ({"seconds": "soon"}, "seconds: Invalid input: expected number, received string"),
    ({"seconds": True}, "seconds: Invalid input: expected number, received boolean"),
    ({"seconds": 1.5}, "seconds: Invalid input: expected int, received number"),
    ({"seconds": float("inf")}, "seconds: Invalid input: expected int, received number"),
    ({"seconds": 0}, "seconds: Too small: expected number to be >0"),
    ({"seconds": 61}, "seconds: Too big: expected number to be <=60"),
    ({"ratio": -1}, "ratio: Too small: expected number to be >=0"),
    ({"ratio": 1}, "ratio: Too big: expected number to be <1"),
    ({"level": "loud"}, 'level: Invalid option: expected one of "low"|"high"'),
    ({"version": 2}, "version: Invalid input: expected 1"),
    ({"style": "loud"}, 'style: Invalid input (allowed: "pretty", "plain")'),
    ({"tags": "a"}, "tags: Invalid input: expected array, received string"),
    ({"tags": ["a", None]}, "tags.1: Invalid input: expected string, received null"),
    ({"open": []}, "open: Invalid input: expected object, received array"),
    ({"entries": {"a": "b"}}, "entries.a: Invalid input: expected object, received string"),
    ({"model": 5}, "model: Invalid input"),
    ({"model": {"nonsense": 1}}, 'model: Unrecognized key: "nonsense"'),
    ({"model": {"fallbacks": [1]}},
     "model.fallbacks.0: Invalid input: expected string, received number"),
    ({"secret": {"nonsense": 1}}, "secret: Invalid input"),
]  # fmt: skip


def test_problems_have_openclaws_wording() -> None:
    problems = [(patch, [str(each) for each in find_problems(SCHEMA, patch)]) for patch, _ in BAD]
    assert problems == [(patch, [words]) for patch, words in BAD]


def test_every_problem_has_its_path() -> None:
    patch = {"nonsense": 1, "name": 5, "entries": {"a": {"alias": []}}}
    assert [str(each) for each in find_problems(SCHEMA, patch)] == [
        "name: Invalid input: expected string, received number",
        "entries.a.alias: Invalid input: expected string, received array",
        '<root>: Unrecognized key: "nonsense"',
    ]
