"""What clients send, and what the gateway is sent for it."""

from typing import Any

import pytest

from chowder_local.errors import MessageRefused
from chowder_local.openclaw.requests import gateway_request

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
PIXEL = "iVBORw0KGgo="


def sent(**asked: Any) -> dict[str, Any]:
    return gateway_request({"model": "gpt-4o", "input": "Hi", **asked})


def sent_input(item: dict[str, Any]) -> Any:
    return sent(input=[item])["input"]


def sent_part(part: dict[str, Any]) -> Any:
    return sent_input({"role": "user", "content": [part]})[0]["content"][0]


def test_a_plain_message_goes_to_the_gateways_own_model() -> None:
    assert sent() == {"model": "openclaw", "input": "Hi"}


def test_what_the_gateway_understands_is_passed_on_as_it_is() -> None:
    asked = {
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
        "tool_choice": "required",
    }
    assert sent(**asked) == {"model": "openclaw", "input": "Hi", **asked}


@pytest.mark.parametrize(
    "habit",
    [
        {"include": []},
        {"include": ["reasoning.encrypted_content"]},
        {"parallel_tool_calls": False},
        {"service_tier": "auto"},
        {"truncation": "auto"},
        {"background": False},
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
    ],
)
def test_what_has_no_meaning_here_is_dropped(habit: dict[str, Any]) -> None:
    assert sent(**habit) == {"model": "openclaw", "input": "Hi"}


def test_an_effort_that_the_gateway_knows_is_passed_on_alone() -> None:
    assert sent(reasoning={"effort": "low", "summary": "auto"})["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        # The Agents SDK and plain openai calls: no type.
        ({"role": "user", "content": "Hi"}, {"type": "message", "role": "user", "content": "Hi"}),
        (
            {"role": "developer", "content": [{"type": "input_text", "text": "Be kind"}]},
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "Be kind"}],
            },
        ),
        # The Agents SDK hands back what it got, with everything that the schema knows.
        (
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "phase": None,
                "content": [
                    {"type": "output_text", "text": "Yo", "annotations": [], "logprobs": []}
                ],
            },
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Yo"}],
            },
        ),
        # The Vercel AI SDK: a stored answer by its id, and an answer without a type.
        ({"type": "item_reference", "id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}),
        (
            {"role": "assistant", "content": [{"type": "output_text", "text": "Yo"}], "id": "m"},
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Yo"}],
            },
        ),
        # LangChain: the part type of Chat Completions, and an empty text beside tool calls.
        (
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ),
        (
            {"type": "message", "role": "assistant", "content": None},
            {"type": "message", "role": "assistant", "content": ""},
        ),
        ({"type": None, "role": "user"}, {"type": "message", "role": "user", "content": ""}),
        # Tool round trips.
        (
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "get_weather",
                "arguments": "{}",
                "status": "completed",
                "namespace": None,
                "parsed_arguments": {},
            },
            {
                "type": "function_call",
                "id": "fc_1",
                "call_id": "call_1",
                "name": "get_weather",
                "arguments": "{}",
                "status": "completed",
            },
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": "21 °C", "status": "x"},
            {"type": "function_call_output", "call_id": "c", "output": "21 °C"},
        ),
        (
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [
                    {"type": "input_text", "text": "one"},
                    {"type": "input_image", "image_url": "https://x.example/y.png"},
                    {"type": "input_text", "text": "two"},
                ],
            },
            {"type": "function_call_output", "call_id": "c", "output": "one\ntwo"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": None},
            {"type": "function_call_output", "call_id": "c", "output": ""},
        ),
    ],
)
def test_each_sdks_way_to_write_an_item_becomes_the_gateways(
    item: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert sent_input(item) == [expected]


def test_a_models_earlier_thoughts_are_left_out() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    message = {"type": "message", "role": "user", "content": "Hi"}
    assert sent(input=[thought, message])["input"] == [message]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "refusal", "refusal": "No."}, {"type": "output_text", "text": "No."}),
        (
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
            {
                "type": "input_image",
                "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
            },
        ),
        (
            {"type": "input_image", "image_url": "https://x.example/y.png"},
            {
                "type": "input_image",
                "source": {"type": "url", "url": "https://x.example/y.png"},
            },
        ),
        (
            {"type": "input_image", "source": {"type": "url", "url": "https://x"}, "detail": "low"},
            {"type": "input_image", "source": {"type": "url", "url": "https://x"}},
        ),
        (
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="},
            {
                "type": "input_file",
                "source": {
                    "type": "base64",
                    "media_type": "text/plain",
                    "data": "SGk=",
                    "filename": "a.txt",
                },
            },
        ),
        (
            {"type": "input_file", "file_data": "SGk="},
            {
                "type": "input_file",
                "source": {
                    "type": "base64",
                    "media_type": "application/octet-stream",
                    "data": "SGk=",
                },
            },
        ),
        (
            {"type": "input_file", "file_data": "data:;base64,SGk="},
            {
                "type": "input_file",
                "source": {
                    "type": "base64",
                    "media_type": "application/octet-stream",
                    "data": "SGk=",
                },
            },
        ),
        (
            {"type": "input_file", "file_url": "https://x.example/a.pdf"},
            {"type": "input_file", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        ),
    ],
)
def test_openais_way_to_write_a_part_becomes_the_gateways(
    part: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert sent_part(part) == expected


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (TOOL, TOOL),
        # LangChain and the Agents SDK write out what is not set.
        ({**TOOL, "strict": None, "description": None, "defer_loading": False}, TOOL),
        (
            {**TOOL, "strict": True, "description": "Weather"},
            {**TOOL, "strict": True, "description": "Weather"},
        ),
        ({**TOOL, "strict": False}, {**TOOL, "strict": False}),
    ],
)
def test_function_tools_are_passed_on(tool: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(tools=[tool])["tools"] == [expected]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tools": [{"type": "web_search"}]}, "'web_search' is not available"),
        ({"tools": [{"type": "mcp", "server_url": "https://x"}]}, "'mcp' is not available"),
        ({"tools": [{}]}, "tools: the built-in tool None"),
        ({"tools": "web_search"}, "tools must be an array"),
        ({"tools": ["web_search"]}, "tools must be an object"),
        ({"text": {"format": {"type": "json_object"}}}, "'json_object' is not supported"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "'json_schema' is not"),
        ({"text": {"format": "text"}}, "text.format must be an object"),
        ({"text": "low"}, "text must be an object"),
        ({"reasoning": "high"}, "reasoning must be an object"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_words(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        sent(**asked)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"type": "computer_call"}, "items of type 'computer_call' are not supported"),
        ({"type": ["message"]}, "items of type"),
        ({"role": "user", "content": {"text": "Hi"}}, "content must be an array"),
        ({"role": "user", "content": ["Hi"]}, "part of a message's content must be an object"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "'input_audio' is not supported"),
        ({"role": "user", "content": [{"type": ["text"]}]}, "is not supported in this form"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "in this form"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": {}}]}, "in this form"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]},
            "image_url must be a string",
        ),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "ids are not kept"),
        (
            {"role": "user", "content": [{"type": "input_file", "file_data": [1]}]},
            "file_data must be a string",
        ),
        ({"type": "function_call_output", "call_id": "c", "output": 5}, "must be an array"),
        ({"type": "function_call_output", "call_id": "c", "output": ["x"]}, "must be an object"),
    ],
)
def test_an_item_that_cannot_be_understood_is_refused_with_words(
    item: dict[str, Any], words: str
) -> None:
    with pytest.raises(MessageRefused, match=words):
        sent_input(item)


def test_translating_leaves_the_clients_request_as_it_was() -> None:
    item = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    asked = {"model": "m", "input": [item], "tools": [dict(TOOL)], "include": []}
    gateway_request(asked)
    assert item == {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    assert asked == {"model": "m", "input": [item], "tools": [TOOL], "include": []}
