"""Normalized responses, validated with the models of the published schema."""

import json
from itertools import product
from typing import Any

import pytest
from openresponses_types import types as spec

from chowder_local.openclaw.responses.requests import GatewayRequest
from chowder_local.openclaw.responses.response_normalizer import normalize, normalize_output
from chowder_local.openclaw.responses.tools import Format
from tests.scripted.answers import (
    ANSWERS,
    CALL,
    MESSAGE,
    MODEL,
    NO_USAGE,
    NOW_S,
    PARAMETERS,
    REQUEST,
    USAGE,
    gateway_response,
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


def test_every_response_matches_the_published_schema() -> None:
    unlike = {}
    for (habit, more), (kind, answer) in product(HABITS.items(), ANSWERS.items()):
        whole = normalize(answer, REQUEST | more, NOW_S)
        judged = spec.ResponseResource.model_validate(whole)
        got = [judged.id, judged.status, judged.model, judged.created_at]
        if got != ["resp_1", answer["status"], MODEL, NOW_S - 5]:
            unlike[habit, kind] = got
    assert not unlike


def test_a_response_echoes_the_request() -> None:
    request = REQUEST | HABITS["everything"]
    whole = normalize(gateway_response(), request, NOW_S)
    echoed = {
        "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
        "previous_response_id", "prompt_cache_key", "safety_identifier", "service_tier", "store",
        "temperature", "text", "tool_choice", "top_p", "truncation",
    }  # fmt: skip
    assert {key: whole[key] for key in echoed} == {key: request[key] for key in echoed}
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


def test_the_members_that_people_read_come_first() -> None:
    assert list(normalize(gateway_response(), REQUEST, NOW_S))[:7] == [
        "id", "object", "created_at", "status", "model", "output", "usage",
    ]  # fmt: skip


def test_text_events_stay_and_get_the_members_that_sdks_require() -> None:
    (message,) = normalize(gateway_response(), REQUEST, NOW_S)["output"]
    assert message == {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}
        ],
    }


def test_a_part_without_text_stays_unchanged() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    (message,) = normalize(
        gateway_response(output=[MESSAGE | {"content": [refusal]}]), REQUEST, NOW_S
    )["output"]
    assert message["content"] == [refusal]


def test_a_function_call_has_a_status() -> None:
    (call,) = normalize(gateway_response(output=[CALL]), REQUEST, NOW_S)["output"]
    assert call == CALL | {"status": "completed"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (USAGE, (12003, 42, 12045, 100, 3, 7)),
        ({"input_tokens": 2, "output_tokens": 3}, (2, 3, 5, 0, 0, 0)),
        (NO_USAGE, (0, 0, 0, 0, 0, 0)),
        (None, (0, 0, 0, 0, 0, 0)),
    ],
)
def test_usage_has_exactly_the_members_of_the_schema(
    value: dict[str, Any] | None, expected: tuple[int, ...]
) -> None:
    usage = normalize(gateway_response(usage=value), REQUEST, NOW_S)["usage"]
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
def test_only_a_finished_response_has_an_end_and_a_usage(
    status: str, completed_at: int | None, has_usage: bool
) -> None:
    whole = normalize(gateway_response(status=status), REQUEST, NOW_S)
    assert whole["completed_at"] == completed_at
    assert (whole["usage"] is not None) == has_usage


def test_normalizing_does_not_change_the_gateways_response() -> None:
    response = gateway_response(output=[MESSAGE, CALL])
    before = json.dumps(response)
    normalize(response, REQUEST, NOW_S)
    assert json.dumps(response) == before


JSON_SCHEMA = {"type": "json_schema", "name": "place", "schema": PARAMETERS, "strict": None}


@pytest.mark.parametrize(
    "value",
    [
        JSON_SCHEMA,
        JSON_SCHEMA | {"json_schema": 5},
        {"type": "json_schema", "json_schema": JSON_SCHEMA},
    ],
)
def test_a_requested_schema_is_echoed_in_openais_form(
    value: dict[str, Any],
) -> None:
    from openai.types.responses import Response

    whole = normalize(
        gateway_response(), REQUEST | {"text": {"format": value, "verbosity": None}}, NOW_S
    )
    text_format = whole["text"]["format"]
    assert (text_format["schema"], text_format["strict"], text_format["description"]) == (
        PARAMETERS,
        False,
        None,
    )
    assert Response.model_validate(whole).text
    # The published schema does not allow a schema here, by mistake.
    text_format["schema"] = None
    judged = spec.ResponseResource.model_validate(whole).text.format
    assert isinstance(judged, spec.JsonSchemaResponseFormat)
    assert judged.name == "place"


TURN = GatewayRequest({})
STRUCTURED = GatewayRequest({}, format=Format(PARAMETERS))
TOLD = CALL | {"name": "final_answer"}


def output(
    turn: GatewayRequest, *items: dict[str, Any], status: str = "completed"
) -> list[dict[str, Any]]:
    whole = normalize_output(gateway_response(output=list(items), status=status), turn)
    return list(normalize(whole, REQUEST, NOW_S)["output"])


def test_an_empty_message_is_omitted() -> None:
    empty = MESSAGE | {"content": [{"type": "output_text", "text": ""}]}
    assert [each["type"] for each in output(TURN, empty, CALL)] == ["function_call"]
    assert [each["type"] for each in output(TURN, MESSAGE, CALL)] == ["message", "function_call"]


def test_a_call_has_the_clients_name_of_the_function() -> None:
    turn = GatewayRequest({}, names={"client_read": "read"})
    calls = output(turn, CALL | {"name": "client_read"}, CALL)
    assert [call["name"] for call in calls] == ["read", "get_weather"]


def test_without_parallel_calls_only_the_first_call_counts() -> None:
    turn = GatewayRequest({}, is_single=True)
    assert [call["call_id"] for call in output(turn, CALL, CALL | {"call_id": "2"})] == [
        "call_toolu_1"
    ]


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


@pytest.mark.parametrize("status", ["incomplete", "failed"])
def test_an_incomplete_answer_stays_unchanged(status: str) -> None:
    (message,) = output(STRUCTURED, MESSAGE, status=status)
    assert message["content"][0]["text"] == "Hello there."


def test_a_truncated_answer_has_only_the_models_text() -> None:
    notice = "⚠️ Reply truncated at the model's output token limit. The text above is partial."
    part = {"type": "output_text", "text": f"One\n\ntwo\n\n{notice}"}
    message = MESSAGE | {"content": [part], "status": "incomplete"}
    cut = normalize_output(ANSWERS["cut short"] | {"output": [message]}, GatewayRequest({}))
    assert cut["output"][0]["content"][0]["text"] == "One\n\ntwo"
    # A model may write the same text.
    whole = normalize_output(gateway_response(output=[message]), GatewayRequest({}))
    assert whole["output"][0]["content"] == [part]
