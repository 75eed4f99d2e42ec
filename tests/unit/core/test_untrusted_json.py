"""Untrusted JSON is limited in depth, numbers and characters."""

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
def test_valid_json_is_read(text: str | bytes) -> None:
    assert untrusted_json.read(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["", "x", "NaN", "-Infinity", "[1e999]", "[-1e999]", b"\xff", b'"\xed\xa0\x80"', "9" * 10_000],
)
def test_json_that_cannot_be_written_again_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        untrusted_json.read(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":[', "]}]")])
def test_the_depth_is_limited(opening: str, closing: str) -> None:
    steps = DEPTH_MAX // sum(opening.count(each) for each in "[{")
    fits = nested(steps, opening, closing)
    assert untrusted_json.read(fits) == json.loads(fits)
    for levels in (steps + 1, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            untrusted_json.read(nested(levels, opening, closing))


def test_many_flat_values_are_not_too_deep() -> None:
    text = json.dumps([[number] for number in range(10_000)])
    assert untrusted_json.read(text) == json.loads(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"x"'])
def test_a_value_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        untrusted_json.read_object(text)


@pytest.mark.parametrize("value", [{}, {"a": 1}])
def test_object_of_gives_an_empty_object_for_other_values(value: Any) -> None:
    assert untrusted_json.object_of(value) is value
    assert untrusted_json.object_of([value]) == untrusted_json.object_of(None) == {}


def test_lists_of_objects_and_texts_leave_out_other_values() -> None:
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
def test_lone_surrogates_are_replaced(text: bytes, read: Any) -> None:
    value = untrusted_json.read_encodable_object(text)
    assert value == read
    assert json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b'{"a":[1,"2",{"b":null}]}', 7),
        (b'{"a,:[{":"\\",:[{\\\\"}', 2),
        (b'{"a":"%b"}' % (b'\\",' * 1000), 2),
    ],
)
def test_names_and_values_are_counted_but_not_what_texts_contain(text: bytes, values: int) -> None:
    for read in (untrusted_json.read_object, untrusted_json.read_encodable_object):
        assert read(text, values_max=values)
        with pytest.raises(ValueError, match="more than"):
            read(text, values_max=values - 1)


def test_object_at_follows_names_to_an_object_or_an_empty_one() -> None:
    value = {"a": {"b": {"c": 1}}, "d": []}
    assert untrusted_json.object_at(value, "a", "b") == {"c": 1}
    for names in (("a", "b", "c"), ("d", "e"), ("missing",)):
        assert untrusted_json.object_at(value, *names) == {}
