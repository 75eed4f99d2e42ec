"""Gemini's generateContent format."""

import json
from typing import Any

from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    Reply,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)
from chowder_local.relay.wire.gemini import GenerateContent
from chowder_local.relay.wire.wire_format import ParsedRequest
from chowder_local.upstream.sse import EventReader
from tests.unit.relay.wire.steps import as_bytes

CALL = Reply(calls=(ToolCall("call_1", "exec", {"command": "id -u"}),))


def asked(*contents: dict[str, Any], is_streamed: bool = False, **more: Any) -> Conversation:
    return GenerateContent("gemini-x", is_streamed).parse({"contents": list(contents), **more})


def render(conversation: Conversation, reply: Reply, *, is_sse: bool) -> bytes:
    given = GenerateContent("gemini-x", conversation.is_streamed, is_sse)
    return as_bytes(ParsedRequest(conversation, given).render(reply).steps)


def test_a_whole_conversation_is_read() -> None:
    conversation = asked(
        {"parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [{"text": "Hello"}]},
        {"role": "user", "parts": [{"text": "a"}, {"inlineData": {}}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "c1", "name": "exec", "args": {"a": 1}}},
                {"functionCall": {"name": "bare"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "exec", "response": {"output": "ok"}}},
                {"functionResponse": {"name": "bare", "response": {"a": 1, "b": 2}}},
                {"functionResponse": {"name": "none"}},
            ],
        },
        {"role": "user"},
        systemInstruction={"parts": [{"text": "S1"}, {"text": "S2"}]},
        tools=[
            {
                "functionDeclarations": [
                    {"name": "exec", "parameters": {"type": "OBJECT"}},
                    {"name": "json", "parametersJsonSchema": {"type": "object"}},
                    {"name": "bare"},
                ]
            },
            {"googleSearch": {}},
        ],
    )

    assert conversation.turns == (
        UserMessage(("Hi",)),
        AssistantText("Hello"),
        UserMessage(("a",)),
        ToolCall("c1", "exec", {"a": 1}),
        ToolCall("bare", "bare"),
        ToolResult("c1", "ok", "exec"),
        ToolResult("bare", '{"a": 1, "b": 2}', "bare"),
        ToolResult("none", "{}", "none"),
    )
    assert (conversation.model, conversation.system) == ("gemini-x", "S1\nS2")
    assert conversation.tools == (
        Tool("exec", {"type": "OBJECT"}),
        Tool("json", {"type": "object"}),
        Tool("bare"),
    )
    assert not conversation.is_streamed


def test_one_content_and_the_other_spelling_are_read() -> None:
    body = {
        "contents": {"role": "user", "parts": [{"text": "Hi"}]},
        "system_instruction": {"parts": [{"text": "S"}]},
    }
    conversation = GenerateContent("gemini-x", is_streamed=True).parse(body)

    assert conversation.turns == (UserMessage(("Hi",)),)
    assert conversation.system == "S"
    assert conversation.is_streamed


def test_choices_are_read() -> None:
    def choice(**config: Any) -> ToolChoice:
        return asked(toolConfig={"functionCallingConfig": config}).choice

    assert asked().choice == ToolChoice("auto")
    assert choice(mode="AUTO") == ToolChoice("auto")
    assert choice(mode="any") == ToolChoice("required")
    assert choice(mode="NONE") == ToolChoice("none")
    assert choice(mode="ANY", allowedFunctionNames=["exec"]) == ToolChoice("required", "exec")


def test_a_text_is_written_whole() -> None:
    conversation = asked()

    answer = json.loads(render(conversation, Reply("Hello"), is_sse=False))

    (candidate,) = answer["candidates"]
    assert candidate["content"] == {"role": "model", "parts": [{"text": "Hello"}]}
    assert candidate["finishReason"] == "STOP"
    assert answer["modelVersion"] == "gemini-x"
    assert answer["usageMetadata"] == {
        "promptTokenCount": conversation.input_tokens,
        "candidatesTokenCount": 2,
        "totalTokenCount": conversation.input_tokens + 2,
    }


def test_a_text_is_written_in_several_events() -> None:
    stream = render(asked(is_streamed=True), Reply("one two three four five"), is_sse=True)

    chunks = [json.loads(event.data or "") for event in EventReader().feed(stream)]
    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks]
    assert len(texts) == 2
    assert "".join(texts) == "one two three four five"
    reasons = [chunk["candidates"][0].get("finishReason") for chunk in chunks]
    assert reasons == [None, "STOP"]
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 6


def test_a_stream_without_sse_is_one_array() -> None:
    stream = render(asked(is_streamed=True), Reply("one two three four"), is_sse=False)

    assert len(json.loads(stream)) == 2


def test_a_call_ends_with_stop() -> None:
    (event,) = EventReader().feed(render(asked(is_streamed=True), CALL, is_sse=True))

    (candidate,) = json.loads(event.data or "")["candidates"]
    assert candidate["content"]["parts"] == [
        {"functionCall": {"id": "call_1", "name": "exec", "args": {"command": "id -u"}}}
    ]
    assert candidate["finishReason"] == "STOP"
