"""A typed configuration: its problems and their lines."""

from __future__ import annotations

import json

import pytest

from chowder_local.core.errors.agents import ConfigProblem
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
def test_a_problem_gets_the_line_of_its_path(path: str, words: str, line: int | None) -> None:
    assert locate(TEXT, [ConfigProblem(path, words)]) == [LocatedProblem(words, path, line)]


def test_problems_are_sorted_by_line() -> None:
    result = locate(
        TEXT, [ConfigProblem("a.b", "x"), ConfigProblem("", "y"), ConfigProblem("agents", "z")]
    )
    assert [each.message for each in result] == ["y", "z", "x"]


def test_a_valid_document_is_read() -> None:
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
def test_an_invalid_document_has_a_problem_with_its_line(text: str, words: str, line: int) -> None:
    result = read_document(text)
    assert isinstance(result, LocatedProblem)
    assert words in result.message
    assert result.line == line


def test_equal_keys_in_different_objects_are_valid() -> None:
    assert read_document('{"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}') is not None
    assert not isinstance(read_document('{"b": {"b": {"b": 1}}}'), LocatedProblem)
