"""What is let through of what a sandbox says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core import untrusted_json
from chowder_local.core.untrusted_json import DEPTH_MAX


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(
    "text", ['{"a": [1, 2.5, -1e10, null, "é", "\\ud800"]}', b'{"a": "\xc3\xa9"}']
)
def test_honest_json_is_read_as_it_is(text: str | bytes) -> None:
    assert untrusted_json.read(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "-Infinity", "[1e999]", "[-1e999]", b"\xff", b'"\xed\xa0\x80"', "9" * 10_000],
)
def test_what_json_could_not_write_again_is_not_read(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        untrusted_json.read(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":[', "]}]")])
def test_so_many_levels_and_no_more(opening: str, closing: str) -> None:
    steps = DEPTH_MAX // sum(opening.count(each) for each in "[{")
    fits = nested(steps, opening, closing)
    assert untrusted_json.read(fits) == json.loads(fits)
    for levels in (steps + 1, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            untrusted_json.read(nested(levels, opening, closing))


def test_much_that_is_flat_is_not_deep() -> None:
    text = json.dumps([[number] for number in range(10_000)])
    assert untrusted_json.read(text) == json.loads(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"x"'])
def test_an_object_is_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="no object"):
        untrusted_json.read_object(text)


@pytest.mark.parametrize("value", [{}, {"a": 1}])
def test_a_member_that_should_be_an_object_is_one(value: Any) -> None:
    assert untrusted_json.object_of(value) is value
    assert untrusted_json.object_of([value]) == untrusted_json.object_of(None) == {}


def test_what_should_be_a_list_of_objects_or_of_text_has_nothing_else() -> None:
    assert untrusted_json.objects_of([{"a": 1}, 7, None, [], {}]) == [{"a": 1}, {}]
    assert untrusted_json.objects_of({"a": {}}) == untrusted_json.objects_of(None) == []
    assert untrusted_json.texts_of(["a", 7, "", ["b"], "c"]) == ("a", "c")
    assert untrusted_json.texts_of("abc") == untrusted_json.texts_of(None) == ()
    assert (
        untrusted_json.text_of("a"),
        untrusted_json.text_of(7),
        untrusted_json.text_of(None),
    ) == ("a", "", "")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b'{"a": "\\ud83e\\udd90"}', {"a": "\U0001f990"}),
        (b'{"a": ["\\ud800"], "\\uDFFF": 1}', {"a": ["\ufffd"], "\ufffd": 1}),
        (b'{"a": "\\\\ud800"}', {"a": "\\ud800"}),
        ('{"a": "é"}'.encode(), {"a": "é"}),
    ],
)
def test_of_half_a_character_nothing_is_kept(text: bytes, read: Any) -> None:
    found = untrusted_json.read_whole_object(text)
    assert found == read
    assert json.dumps(found, ensure_ascii=False).encode()


def test_names_lead_to_an_object_or_to_an_empty_one() -> None:
    value = {"a": {"b": {"c": 1}}, "d": []}
    assert untrusted_json.object_at(value, "a", "b") == {"c": 1}
    for names in (("a", "b", "c"), ("d", "e"), ("missing",)):
        assert untrusted_json.object_at(value, *names) == {}
