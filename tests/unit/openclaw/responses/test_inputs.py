"""The input of a message: the clients' forms, and what the gateway gets."""

from typing import Any

import pytest

from chowder_local.core.errors.agents import MessageRefused
from chowder_local.openclaw.responses.inputs import (
    DROPPED,
    gateway_input,
    is_blank,
    to_gateway_item,
)
from tests.scripted.refusals import refusal

PIXEL = "iVBORw0KGgo="
IMAGE = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}
SENT_IMAGE = {
    "type": "input_image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
}
FILE = {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="}
SENT_FILE = {
    "type": "input_file",
    "source": {"type": "base64", "media_type": "text/plain", "data": "SGk=", "filename": "a.txt"},
}
CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


def message_of(*parts: dict[str, Any] | str, role: str = "user") -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": part} if isinstance(part, str) else part for part in parts]
    return {"type": "message", "role": role, "content": content}


def returned(output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "c", "output": output}


def translated(client_items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return gateway_input(
        [item for each in client_items if (item := to_gateway_item(each)) is not None]
    )


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
        # The Agents SDK sends back items with all members of the schema.
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
        # The Vercel AI SDK: an answer without a type.
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
                "id": "1",
                "call_id": "1",
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
            {"type": "function_call_output", "call_id": "c", "output": "one\n[image]\ntwo"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": None},
            {"type": "function_call_output", "call_id": "c", "output": ""},
        ),
    ],
)
def test_each_sdks_form_of_an_item_becomes_the_gateways(
    item: dict[str, Any], expected: dict[str, Any]
) -> None:
    items = translated([item, message_of("Well?")])
    assert items[0] == expected


def test_a_providers_own_items_are_left_out() -> None:
    items = [{"type": kind, "id": "x", "summary": []} for kind in sorted(DROPPED)]
    left = [(each["type"], translated([each, message_of("Hi")])) for each in items]
    assert not [each for each in left if each[1] != [message_of("Hi")]]


def test_custom_tools_of_earlier_turns_are_calls_like_others() -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "ls"}
    output = {"type": "custom_tool_call_output", "call_id": "c", "output": "a.txt"}
    assert translated([call, output]) == [
        {"type": "function_call", "call_id": "c", "name": "run", "arguments": "ls"},
        returned("a.txt"),
    ]


def test_rules_alone_become_a_user_message() -> None:
    rules = [message_of("Be kind.", role="system"), message_of("Say hi.", role="developer")]
    assert translated(rules) == [rules[0], message_of("Say hi.")]
    assert translated([]) == []


def test_images_and_files_of_a_message_stay_with_it_behind_its_words() -> None:
    assert translated([message_of(IMAGE, "What is it?", FILE)]) == [
        message_of("What is it?", SENT_IMAGE, SENT_FILE)
    ]


def test_images_since_the_latest_answer_go_to_the_last_message() -> None:
    history = [message_of("Hi"), message_of("Hello.", role="assistant")]
    images = [
        message_of("See:", IMAGE),
        message_of("Be brief.", role="system"),
        message_of("And this:", FILE),
    ]
    assert translated([*history, *images, message_of("What is it?")]) == [
        *history,
        message_of("See:", "[image]"),
        message_of("Be brief.", role="system"),
        message_of("And this:", "[file a.txt]"),
        message_of("What is it?", SENT_IMAGE, SENT_FILE),
    ]


def test_rules_after_a_message_do_not_take_its_images() -> None:
    rules = message_of("Be brief.", role="system")
    assert translated([message_of("See:", IMAGE), rules]) == [message_of("See:", SENT_IMAGE), rules]


def test_a_refusal_of_an_earlier_turn_becomes_text() -> None:
    refusal = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert translated([refusal, message_of("Why?")])[0] == message_of("No.", role="assistant")


def test_a_last_message_of_plain_text_takes_them_too() -> None:
    plain = {"type": "message", "role": "user", "content": "What is it?"}
    assert translated([message_of(IMAGE), plain])[1] == message_of("What is it?", SENT_IMAGE)


def test_images_before_an_answer_become_placeholders() -> None:
    history = [message_of("What is it?", IMAGE), message_of("A dot.", role="assistant")]
    assert translated([*history, message_of("Sure?")]) == [
        message_of("What is it?", "[image]"),
        message_of("A dot.", role="assistant"),
        message_of("Sure?"),
    ]


def test_an_image_in_an_answer_becomes_a_placeholder() -> None:
    assert translated([message_of("Here:", IMAGE, role="assistant"), message_of("Thanks.")]) == [
        message_of("Here:", "[image]", role="assistant"),
        message_of("Thanks."),
    ]


def test_images_that_a_tool_gave_back_follow_its_output() -> None:
    output = returned([{"type": "input_text", "text": "Here:"}, IMAGE])
    assert translated([message_of("Look.", FILE), CALL, output]) == [
        message_of("Look.", "[file a.txt]"),
        CALL,
        returned("Here:\n[image]"),
        message_of(SENT_IMAGE),
    ]


def test_images_that_a_tool_gave_back_go_to_the_message_that_follows() -> None:
    assert translated([CALL, returned([IMAGE]), message_of("Well?")]) == [
        CALL,
        returned("[image]"),
        message_of("Well?", SENT_IMAGE),
    ]


UNCLEAR: list[tuple[dict[str, Any], str]] = [
    ({"type": "hologram"}, "items of type 'hologram' are not supported"),
    ({"role": "tool", "content": "x"}, "the role 'tool' is none of user, assistant"),
    ({"role": "user", "content": [{"type": "text", "text": 5}]}, "text must be a string"),
    ({"type": "function_call_output", "output": "x"}, "call_id must be a string"),
    (
        {"type": "function_call", "name": "f", "arguments": {"a": 1}},
        "arguments must be a string",
    ),
    ({"type": "function_call", "arguments": "{}", "name": 5}, "name must be a string"),
    ({"type": ["message"]}, "type must be a string"),
    ({"role": "user", "content": {"text": "Hi"}}, "content must be a string or an array"),
    ({"role": "user", "content": ["Hi"]}, "must be an object"),
    ({"role": "user", "content": [{"type": "input_audio"}]}, "'input_audio' is not supported"),
    ({"role": "user", "content": [{"type": ["text"]}]}, "is not supported"),
    (
        {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
        "ids are not kept",
    ),
    (
        {"role": "user", "content": [{"type": "input_image", "image_url": {}}]},
        "needs image_url",
    ),
    (
        {"role": "user", "content": [{"type": "input_image", "image_url": {"url": 5}}]},
        "image_url must be a string",
    ),
    ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "ids are not kept"),
    (
        {"role": "user", "content": [{"type": "input_file", "file_data": [1]}]},
        "file_data must be a string",
    ),
    (
        {"type": "function_call_output", "call_id": "c", "output": 5},
        "output of a function_call_output must be a string or an array of content parts",
    ),
    ({"type": "function_call_output", "call_id": "c", "output": False}, "must be a string"),
    ({"type": "function_call_output", "call_id": "c", "output": ["x"]}, "must be an object"),
]


def test_an_unsupported_item_is_refused_with_a_reason() -> None:
    refused = [
        (each, words, refusal(MessageRefused, translated, [each])) for each, words in UNCLEAR
    ]
    assert not [each for each in refused if each[1] not in each[2]]


BLANK = message_of(" \n")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" \t\n", True),
        ("Hi", False),
        ([BLANK], True),
        ([BLANK, message_of("  "), message_of("x", role="assistant"), BLANK], True),
        ([message_of("Hi"), BLANK], False),
        ([message_of(SENT_IMAGE)], False),
        ([{"type": "function_call_output", "call_id": "c", "output": ""}, BLANK], False),
        ([], False),
    ],
)
def test_a_message_is_blank_if_nothing_since_the_latest_answer_says_anything(
    value: Any, expected: bool
) -> None:
    assert is_blank(value) == expected
