"""A document that a person types: what is wrong with it, and in which line."""

from __future__ import annotations

import json

import pytest

from chowder_local.core.errors.agents import Problem
from chowder_local.dashboard.config import LocatedProblem, locate, read_document

TEXT = """{
  "agents": {
    "defaults": {"timeoutSeconds": "soon",
      "nonsense": 1},
    "list": [
      {"id": "a"},
      {"id": "b", "say": "} \\" , [ :"}
    ]
  },
  "a.b": {
    "c": null
  }
}"""


@pytest.mark.parametrize(
    ("path", "words", "line"),
    [
        ("agents.defaults.timeoutSeconds", "no", 3),
        ("agents.defaults", 'Unrecognized key: "nonsense"', 4),
        ("agents.defaults", 'Unrecognized keys: "other", "nonsense"', 4),
        ("agents.list.1.say", "no", 7),
        ("agents.list.1.missing.deeper", "no", 7),
        ("agents.list.0", "no", 6),
        ("a.b.c", "no", 11),
        ("", 'Unrecognized key: "agents"', 2),
        ("", "no", None),
        ("hooks.token", "no", None),
    ],
)
def test_a_problem_is_placed_where_it_is(path: str, words: str, line: int | None) -> None:
    assert locate(TEXT, [Problem(path, words)]) == [LocatedProblem(words, path, line)]


def test_problems_come_in_the_order_of_the_text() -> None:
    found = locate(TEXT, [Problem("a.b", "x"), Problem("", "y"), Problem("agents", "z")])
    assert [each.message for each in found] == ["y", "z", "x"]


def test_what_is_fine_is_read() -> None:
    assert read_document(TEXT) == json.loads(TEXT)
    assert read_document("{}") == {}


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ('{\n"a": 1,\n"b"}', "delimiter", 3),
        ("[1]", "braces", 1),
        ("5", "braces", 1),
        ('{"a": NaN}', "NaN", 1),
        ('{"a": 1,\n "b": 2,\n "a": 3}', "twice", 3),
        ('{"a": [{"b": 1, "b": 1}]}', "twice", 1),
        ("[" * 5000, "", 1),
        ('{"a": "\\ud800"}', "", 1),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, words: str, line: int) -> None:
    found = read_document(text)
    assert isinstance(found, LocatedProblem)
    assert words in found.message
    assert found.line == line


def test_the_same_name_in_different_places_is_fine() -> None:
    assert read_document('{"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}') is not None
    assert not isinstance(read_document('{"b": {"b": {"b": 1}}}'), LocatedProblem)
