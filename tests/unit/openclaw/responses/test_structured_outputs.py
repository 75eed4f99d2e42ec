"""Structured outputs: the requested function, and the answers that fit."""

from typing import Any

import pytest

from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.openclaw.responses.tools import Format, Offer, parse_format

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"size": {"enum": ["s", "m"]}, "inner": {"$ref": "#/$defs/inner"}},
    "required": ["size"],
    "$defs": {"inner": {"type": "array", "items": {"type": "integer"}}},
}
JSON_SCHEMA = {"type": "json_schema", "name": "shirt", "schema": SCHEMA, "strict": True}


def requested(**members: Any) -> Format:
    form = parse_format({"format": JSON_SCHEMA | members})
    assert form is not None
    return form


@pytest.mark.parametrize("text", [{}, {"format": None}, {"format": {"type": "text"}}])
def test_text_is_no_format(text: dict[str, Any]) -> None:
    assert parse_format(text) is None


def test_the_schema_is_the_functions_parameters() -> None:
    tool = requested(description="A shirt.").tool
    assert tool["name"] == "final_answer"
    assert tool["parameters"] == SCHEMA
    assert tool["description"].endswith("The answer: A shirt.")
    assert "The answer" not in requested().tool["description"]


def test_a_format_in_the_chat_completions_form_is_accepted() -> None:
    nested = {"type": "json_schema", "json_schema": {"name": "shirt", "schema": SCHEMA}}
    assert parse_format({"format": nested}) == Format(SCHEMA)


@pytest.mark.parametrize("place", ["$defs", "definitions"])
def test_a_root_that_is_elsewhere_in_the_schema_is_put_at_the_root(place: str) -> None:
    shirt = {"type": "object", "properties": {"next": {"$ref": f"#/{place}/shirt"}}}
    form = requested(schema={"$ref": f"#/{place}/shirt", place: {"shirt": shirt}})
    assert form.tool["parameters"] == {**shirt, place: {"shirt": shirt}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {}}, "root must be of type 'object'"),
        ({}, "root must be of type 'object'"),
        ({"$ref": "#/$defs/x", "$defs": {"x": True}}, "root must be of type 'object'"),
        ({"type": "objekt"}, "it is not a JSON schema: "),
        ({"type": "object", "pattern": "("}, "it is not a JSON schema: "),
        ({"$ref": "#/$defs/nosuch"}, "it is not a JSON schema: "),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "is outside of the schema"),
        ([], "schema must be an object"),
        (None, "json_schema needs the answer's JSON schema as `schema`; request json_object"),
    ],
)
def test_an_unusable_schema_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        requested(schema=schema)


def test_a_description_is_text() -> None:
    with pytest.raises(MessageRefused, match="description must be a string"):
        requested(description=["A shirt."])


def test_a_format_that_nobody_knows_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MessageRefused, match="'grammar' is none of text, json_object, json_schema"):
        parse_format({"format": {"type": "grammar"}})


def test_a_model_must_call_only_the_answers_function() -> None:
    rule = requested().rule(Offer([]))
    assert "You must call the final_answer tool before responding." in rule
    assert "Call at most one tool at a time." in rule
    assert requested().rule(Offer([{"name": "f"}], mode="none")) == rule


def test_with_client_functions_a_model_may_choose() -> None:
    rule = requested().rule(Offer([{"name": "f"}]))
    assert "You must call one of the available tools before responding." in rule


def test_arguments_that_fit_are_the_answer() -> None:
    assert requested().from_arguments('{"size":"s","inner":[1]}') == '{"size":"s","inner":[1]}'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"size":"xl"}', r"does not fit text\.format\.schema: size: "),
        ('{"size":"s","inner":[1,"2"]}', "schema: inner/1: "),
        ("{}", '"size" is a required property'),
        ("[]", "is JSON, but not an object"),
        ("", "is not JSON"),
        ("Hello.", "is not JSON.*Hello"),
        ("[" * 100_000, "is not JSON"),
        ('{"size":NaN}', "is not JSON"),
        ("[" + "[]," * 200_000 + "1]", "more than 100000 values"),
    ],
)
def test_arguments_that_do_not_fit_are_unfit(arguments: str, words: str) -> None:
    with pytest.raises(AnswerUnfit, match=words):
        requested().from_arguments(arguments)


@pytest.mark.parametrize(
    "text",
    [
        '{"size": "s"}',
        '\n{"size": "s"} \n',
        '```json\n{"size": "s"}\n```',
        '```\n{"size": "s"}\n```',
    ],
)
def test_a_text_answer_is_accepted_if_it_fits(text: str) -> None:
    assert requested().from_text(text) == '{"size": "s"}'


def test_what_does_not_fit_is_quoted_in_part_only() -> None:
    with pytest.raises(AnswerUnfit) as unfit:
        requested().from_arguments('{"size":"' + "x" * 1_000_000 + '"}')
    assert len(str(unfit.value)) < 3_000


def test_a_text_answer_that_does_not_fit_is_unfit() -> None:
    with pytest.raises(AnswerUnfit, match="required property"):
        requested().from_text('{"colour": "red"}')
    with pytest.raises(AnswerUnfit, match="is not JSON"):
        requested().from_text('{"colour": ')


@pytest.mark.parametrize("text", ["", "I am sorry, but no.", "[1]"])
def test_prose_is_neither_an_answer_nor_a_failure(text: str) -> None:
    assert requested().from_text(text) is None


def test_without_a_schema_the_answer_is_json_in_a_string() -> None:
    form = parse_format({"format": {"type": "json_object"}})
    assert form == Format()
    assert form.tool["parameters"]["required"] == ["json"]
    assert form.from_arguments('{"json":"{\\"a\\": 1}"}') == '{"a": 1}'
    with pytest.raises(AnswerUnfit, match="not an object"):
        form.from_arguments('{"json":"[1]"}')
    with pytest.raises(AnswerUnfit, match="is not JSON"):
        form.from_arguments("{}")
