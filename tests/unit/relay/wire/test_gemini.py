"""Gemini's generateContent format."""

import json
from typing import Any

from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    PromptTool,
    Reply,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)
from chowder_local.relay.wire.gemini import GenerateContent
from chowder_local.relay.wire.wire_format import ParsedRequest
from tests.unit.relay.wire.steps import as_bytes


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
        PromptTool("exec", {"type": "OBJECT"}),
        PromptTool("json", {"type": "object"}),
        PromptTool("bare"),
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


def test_a_stream_without_sse_is_one_array() -> None:
    stream = render(asked(is_streamed=True), Reply("one two three four"), is_sse=False)

    assert len(json.loads(stream)) == 2
