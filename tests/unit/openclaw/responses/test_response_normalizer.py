"""What the gateway answers, made whole; the published schema's own models are the judge."""

import json
from itertools import product
from typing import Any

import pytest
from openresponses_types import types as spec

from chowder_local.core.errors.agents import AnswerUnfit
from chowder_local.openclaw.responses.requests import Turn
from chowder_local.openclaw.responses.response_normalizer import normalize, normalize_output
from chowder_local.openclaw.responses.structured_outputs import Format
from tests.scripted.answers import (
    ANSWERS,
    ASKED,
    CALL,
    MESSAGE,
    MODEL,
    NO_USAGE,
    NOW_S,
    PARAMETERS,
    USAGE,
    answered,
)

HABITS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "explicit nulls": dict.fromkeys(
        [
            "instructions", "max_output_tokens", "max_tool_calls", "metadata", "temperature",
            "parallel_tool_calls", "previous_response_id", "reasoning", "service_tier", "store",
            "text", "tool_choice", "tools", "top_p", "truncation", "user",
        ]
    ),
    "everything": {
        "instructions": "Be brief.",
        "max_output_tokens": 99,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_0",
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "service_tier": "auto",
        "store": False,
        "temperature": 0,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": PARAMETERS, "strict": True}],
        "top_p": 0.5,
        "truncation": "auto",
    },
    "a tool with a name alone": {"tools": [{"type": "function", "name": "f"}]},
    "a chosen tool": {"tool_choice": {"type": "function", "name": "f"}},
    "a tool chosen as in chat": {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    "an effort of OpenAI's own": {"reasoning": {"effort": "minimal"}},
    "no effort": {"reasoning": {"effort": "none"}},
    "reasoning without an effort": {"reasoning": {"summary": "auto"}},
    "allowed tools": {
        "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        },
    },
    "allowed tools as in chat": {
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "f"}]},
        },
    },
    "a tool as in chat": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "any JSON": {"text": {"format": {"type": "json_object"}}},
    "a verbosity alone": {"text": {"verbosity": "high"}},
    "a format that is null": {"text": {"format": None}},
    "a truncation of no meaning": {"truncation": "later"},
}  # fmt: skip


def test_every_answer_is_a_responses_resource_whatever_was_asked() -> None:
    unlike = {}
    for (habit, more), (kind, answer) in product(HABITS.items(), ANSWERS.items()):
        whole = normalize(answer, ASKED | more, NOW_S)
        judged = spec.ResponseResource.model_validate(whole)
        got = [judged.id, judged.status, judged.model, judged.created_at]
        if got != ["resp_1", answer["status"], MODEL, NOW_S - 5]:
            unlike[habit, kind] = got
    assert not unlike


def test_an_answer_says_what_was_asked_for() -> None:
    asked = ASKED | HABITS["everything"]
    whole = normalize(answered(), asked, NOW_S)
    echoed = {
        "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
        "previous_response_id", "prompt_cache_key", "safety_identifier", "service_tier", "store",
        "temperature", "text", "tool_choice", "top_p", "truncation",
    }  # fmt: skip
    assert {key: whole[key] for key in echoed} == {key: asked[key] for key in echoed}
    assert whole["reasoning"] == {"effort": "low", "summary": "auto"}
    assert whole["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": None,
            "parameters": PARAMETERS,
            "strict": True,
        }
    ]


def test_what_a_person_reads_comes_first() -> None:
    assert list(normalize(answered(), ASKED, NOW_S))[:7] == [
        "id", "object", "created_at", "status", "model", "output", "usage",
    ]  # fmt: skip


def test_text_says_the_same_and_gets_the_members_that_sdks_insist_on() -> None:
    (message,) = normalize(answered(), ASKED, NOW_S)["output"]
    assert message == {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}
        ],
    }


def test_a_part_that_is_no_text_stays_as_it_is() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    (message,) = normalize(answered(output=[MESSAGE | {"content": [refusal]}]), ASKED, NOW_S)[
        "output"
    ]
    assert message["content"] == [refusal]


def test_a_function_call_has_a_status() -> None:
    (call,) = normalize(answered(output=[CALL]), ASKED, NOW_S)["output"]
    assert call == CALL | {"status": "completed"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (USAGE, (12003, 42, 12045, 100, 3, 7)),
        ({"input_tokens": 2, "output_tokens": 3}, (2, 3, 5, 0, 0, 0)),
        (NO_USAGE, (0, 0, 0, 0, 0, 0)),
        (None, (0, 0, 0, 0, 0, 0)),
    ],
)
def test_usage_has_exactly_the_members_that_schema_and_sdk_insist_on(
    given: dict[str, Any] | None, expected: tuple[int, ...]
) -> None:
    usage = normalize(answered(usage=given), ASKED, NOW_S)["usage"]
    assert usage == {
        "input_tokens": expected[0],
        "output_tokens": expected[1],
        "total_tokens": expected[2],
        "input_tokens_details": {"cached_tokens": expected[3], "cache_write_tokens": expected[5]},
        "output_tokens_details": {"reasoning_tokens": expected[4]},
    }


@pytest.mark.parametrize(
    ("status", "completed_at", "has_usage"),
    [
        ("completed", NOW_S, True),
        ("incomplete", NOW_S, True),
        ("failed", NOW_S, True),
        ("in_progress", None, False),
        ("queued", None, False),
    ],
)
def test_only_an_answer_that_is_over_has_an_end_and_a_usage(
    status: str, completed_at: int | None, has_usage: bool
) -> None:
    whole = normalize(answered(status=status), ASKED, NOW_S)
    assert whole["completed_at"] == completed_at
    assert (whole["usage"] is not None) == has_usage


def test_an_answer_made_whole_leaves_the_gateways_as_it_was() -> None:
    given = answered(output=[MESSAGE, CALL])
    before = json.dumps(given)
    normalize(given, ASKED, NOW_S)
    assert json.dumps(given) == before


JSON_SCHEMA = {"type": "json_schema", "name": "place", "schema": PARAMETERS, "strict": None}


@pytest.mark.parametrize(
    "given",
    [
        JSON_SCHEMA,
        JSON_SCHEMA | {"json_schema": 5},
        {"type": "json_schema", "json_schema": JSON_SCHEMA},
    ],
)
def test_a_schema_that_was_asked_for_is_told_as_openais_clients_know_it(
    given: dict[str, Any],
) -> None:
    from openai.types.responses import Response

    whole = normalize(answered(), ASKED | {"text": {"format": given, "verbosity": None}}, NOW_S)
    told = whole["text"]["format"]
    assert (told["schema"], told["strict"], told["description"]) == (PARAMETERS, False, None)
    assert Response.model_validate(whole).text
    # The published schema has no room for one, which cannot be meant.
    told["schema"] = None
    judged = spec.ResponseResource.model_validate(whole).text.format
    assert isinstance(judged, spec.JsonSchemaResponseFormat)
    assert judged.name == "place"


TURN = Turn({})
STRUCTURED = Turn({}, format=Format(PARAMETERS))
TOLD = CALL | {"name": "final_answer"}


def output(turn: Turn, *items: dict[str, Any], status: str = "completed") -> list[dict[str, Any]]:
    whole = normalize_output(answered(output=list(items), status=status), turn)
    return list(normalize(whole, ASKED, NOW_S)["output"])


def test_a_message_without_words_is_none() -> None:
    empty = MESSAGE | {"content": [{"type": "output_text", "text": ""}]}
    assert [each["type"] for each in output(TURN, empty, CALL)] == ["function_call"]
    assert [each["type"] for each in output(TURN, MESSAGE, CALL)] == ["message", "function_call"]


def test_a_function_goes_by_the_clients_name_again() -> None:
    turn = Turn({}, names={"client_read": "read"})
    calls = output(turn, CALL | {"name": "client_read"}, CALL)
    assert [call["name"] for call in calls] == ["read", "get_weather"]


def test_of_calls_one_at_a_time_the_first_counts() -> None:
    turn = Turn({}, is_single=True)
    assert [call["call_id"] for call in output(turn, CALL, CALL | {"call_id": "2"})] == ["toolu_1"]


def test_arguments_of_the_answers_function_are_the_answers_text() -> None:
    (message,) = output(STRUCTURED, MESSAGE | {"phase": "commentary"}, TOLD)
    judged = spec.Message.model_validate(message)
    assert (judged.id, judged.status.value) == ("msg_resp_1", "completed")
    (part,) = message["content"]
    assert part == {
        "type": "output_text",
        "text": CALL["arguments"],
        "annotations": [],
        "logprobs": [],
    }


def test_the_last_of_several_answers_counts() -> None:
    (message,) = output(STRUCTURED, TOLD, TOLD | {"arguments": '{"city":"Rome"}'})
    assert message["content"][0]["text"] == '{"city":"Rome"}'


def test_a_clients_function_comes_before_the_answer() -> None:
    items = output(STRUCTURED, MESSAGE, CALL, TOLD)
    assert [each["type"] for each in items] == ["message", "function_call"]


def test_an_answer_in_text_that_fits_is_taken() -> None:
    fits = MESSAGE | {"content": [{"type": "output_text", "text": '{"city": "Rome"}'}]}
    (message,) = output(STRUCTURED, fits)
    assert message["content"][0]["text"] == '{"city": "Rome"}'


def test_words_instead_of_the_answer_are_a_refusal() -> None:
    (message,) = output(STRUCTURED, MESSAGE)
    assert message["content"] == [{"type": "refusal", "refusal": "Hello there."}]
    spec.Message.model_validate(message)


def test_an_answer_that_does_not_fit_is_a_failure() -> None:
    with pytest.raises(AnswerUnfit, match="country"):
        output(Turn({}, format=Format({**PARAMETERS, "required": ["country"]})), TOLD)


@pytest.mark.parametrize("status", ["incomplete", "failed"])
def test_an_answer_that_is_not_whole_stays_as_it_is(status: str) -> None:
    (message,) = output(STRUCTURED, MESSAGE, status=status)
    assert message["content"][0]["text"] == "Hello there."


def test_an_answer_that_was_cut_off_has_the_models_words_alone() -> None:
    notice = "⚠️ Reply truncated at the model's output token limit. The text above is partial."
    part = {"type": "output_text", "text": f"One\n\ntwo\n\n{notice}"}
    message = MESSAGE | {"content": [part], "status": "incomplete"}
    cut = normalize_output(ANSWERS["cut short"] | {"output": [message]}, Turn({}))
    assert cut["output"][0]["content"][0]["text"] == "One\n\ntwo"
    # A model may say it, too.
    whole = normalize_output(answered(output=[message]), Turn({}))
    assert whole["output"][0]["content"] == [part]
