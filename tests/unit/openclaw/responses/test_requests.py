"""Requests of clients, and the gateway's requests that are made of them."""

import re
from typing import Any

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.requests import (
    DROPPED,
    PASSED_ON,
    REFUSED,
    TRANSLATED,
    GatewayRequest,
    parse_request,
)
from chowder_local.relay.prompt_format import ONE_AT_A_TIME
from tests.scripted.refusals import refusal

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
IMAGE = {"type": "input_image", "image_url": "https://x.example/y.png"}


def parse_with(**members: Any) -> GatewayRequest:
    return parse_request({"model": "gpt-4o", "input": "Hi", **members})


def sent(**members: Any) -> dict[str, Any]:
    return parse_with(**members).request


def test_a_plain_message_goes_to_the_gateways_own_model() -> None:
    assert sent() == {"model": "openclaw", "input": "Hi"}


def test_members_that_the_gateway_understands_pass_unchanged() -> None:
    members = {
        "instructions": "Be brief.",
        "stream": True,
        "max_output_tokens": 99,
        "max_tool_calls": 3,
        "user": "u-1",
        "temperature": 0.0,
        "top_p": 0.5,
        "metadata": {"a": "b"},
        "store": False,
        "previous_response_id": "resp_1",
    }
    assert sent(**members) == {"model": "openclaw", "input": "Hi", **members}


MEANINGLESS: list[dict[str, Any]] = [
    {"include": []},
    {"include": ["reasoning.encrypted_content"]},
    {"parallel_tool_calls": False},
    {"service_tier": "auto"},
    {"truncation": "auto"},
    {"background": False, "conversation": None},
    {"tools": [{"type": "web_search"}]},
    {"tool_choice": "auto"},
    {"prompt_cache_key": "k"},
    {"safety_identifier": "s"},
    {"stream_options": {"include_obfuscation": False}},
    {"top_logprobs": 0},
    {"text": {"format": {"type": "text"}, "verbosity": "low"}},
    {"text": {"verbosity": "low"}},
    {"text": {"format": None}},
    {"text": {}},
    {"reasoning": {}},
    {"reasoning": {"summary": "auto"}},
    {"reasoning": {"effort": "minimal"}},
    {"reasoning": {"effort": None}},
    {"tools": []},
    {"something_new": {"x": 1}},
    {"temperature": None, "tools": None, "text": None, "reasoning": None, "stream": None},
]


def test_members_without_a_meaning_are_dropped() -> None:
    passed_on = [(habit, sent(**habit)) for habit in MEANINGLESS]
    plain = {"model": "openclaw", "input": "Hi"}
    assert not [each for each in passed_on if each[1] != plain]


def test_an_effort_that_the_gateway_knows_is_passed_on_alone() -> None:
    assert sent(reasoning={"effort": "low", "summary": "auto"})["reasoning"] == {"effort": "low"}


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "mcp", "server_url": "https://x"}]}, "'mcp' is not available"),
    ({"tools": [{}]}, "tools: the built-in tool None"),
    ({"tools": "web_search"}, "tools must be an array"),
    ({"tools": ["web_search"]}, "a tool must be an object"),
    ({"background": True}, "background: .*stream it instead"),
    ({"conversation": "conv_1"}, r"conversation: .*/session/<any name>/responses"),
    ({"conversation": {"id": "conv_1"}}, "conversation: "),
    ({"prompt": {"id": "pmpt_1"}}, "prompt: .*send the prompt's text"),
    ({"text": {"format": {"type": "grammar"}}}, "'grammar' is none of text"),
    ({"text": {"format": "text"}}, "text.format must be an object"),
    ({"text": "low"}, "text must be an object"),
    ({"reasoning": "high"}, "reasoning must be an object"),
]


def test_members_that_cannot_be_honoured_are_refused_with_a_reason() -> None:
    refused = [
        (members, words, refusal(MessageRefused, sent, **members)) for members, words in IMPOSSIBLE
    ]
    assert not [each for each in refused if not re.search(each[1], each[2])]


def test_each_member_of_the_api_is_in_one_list_alone() -> None:
    lists = [PASSED_ON, TRANSLATED, DROPPED, frozenset(REFUSED)]
    assert sum(map(len, lists)) == len(frozenset[str]().union(*lists))


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TEXT = {"format": {"type": "json_schema", "name": "thing", "schema": SCHEMA, "strict": True}}


def names(request: dict[str, Any]) -> list[str]:
    return [tool["name"] for tool in request.get("tools", [])]


def test_a_structured_answer_is_asked_for_with_a_function() -> None:
    turn = parse_with(text=TEXT, instructions="Be brief.")
    assert turn.format is not None
    (tool,) = turn.request["tools"]
    assert (tool["name"], tool["parameters"]) == ("final_answer", SCHEMA)
    assert turn.request["instructions"].startswith("Be brief.\n\n")
    assert "You must call the final_answer tool before resp" in turn.request["instructions"]
    assert "tool_choice" not in turn.request


def test_with_client_functions_any_call_is_allowed() -> None:
    request = sent(text=TEXT, tools=[TOOL])
    assert names(request) == ["get_weather", "final_answer"]
    assert "You must call one of the available tools" in request["instructions"]


def test_a_choice_against_functions_leaves_the_answer_alone() -> None:
    request = sent(text=TEXT, tools=[TOOL], tool_choice="none")
    assert names(request) == ["final_answer"]
    assert "You must call the final_answer tool" in request["instructions"]


def test_a_required_call_comes_before_the_formatted_answer() -> None:
    turn = parse_with(text=TEXT, tools=[TOOL], tool_choice="required")
    assert turn.format is None
    assert names(turn.request) == ["get_weather"]
    assert turn.request["tool_choice"] == "required"


def test_calls_one_at_a_time_are_a_rule_for_the_model_and_for_the_answer() -> None:
    turn = parse_with(tools=[TOOL], parallel_tool_calls=False)
    assert turn.is_single
    assert turn.request["instructions"] == ONE_AT_A_TIME


def test_images_need_a_vision_model() -> None:
    assert parse_with(input=[{"role": "user", "content": [IMAGE]}]).may_show_images
    assert not parse_with(input=[{"role": "user", "content": "Hi"}]).may_show_images
    assert not parse_with().may_show_images


def test_translating_leaves_the_clients_request_as_it_was() -> None:
    item = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    members = {"model": "m", "input": [item], "tools": [dict(TOOL)], "include": []}
    parse_request(members)
    assert item == {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    assert members == {"model": "m", "input": [item], "tools": [TOOL], "include": []}
