"""OpenAI's Chat Completions format."""

import json
from collections.abc import Iterable
from typing import Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    PromptTool,
    Reply,
    StreamStep,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)
from chowder_local.relay.wire.openai import ChatCompletions
from chowder_local.relay.wire.wire_format import ParsedRequest
from chowder_local.upstream.sse import EventReader
from tests.scripted.model_calls import conversation_of
from tests.unit.relay.wire.steps import as_bytes


def parse(content: dict[str, Any]) -> Conversation:
    return conversation_of(ModelProvider.OPENAI, "chat/completions", content)


def render(conversation: Conversation, reply: Reply) -> Iterable[bytes | StreamStep]:
    return ParsedRequest(conversation, ChatCompletions(7)).render(reply).steps


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "messages": list(messages), **more}


def chunks(conversation: Conversation, reply: Reply) -> list[dict[str, Any]]:
    *data, done = EventReader().feed(as_bytes(render(conversation, reply)))
    assert done.data == "[DONE]"
    return [json.loads(event.data or "") for event in data]


def test_a_whole_conversation_is_read() -> None:
    function = {"name": "exec", "arguments": '{"command": "id"}'}
    call = {"id": "c1", "type": "function", "function": function}
    conversation = parse(
        body(
            {"role": "system", "content": "S1"},
            {"role": "developer", "content": [{"type": "text", "text": "S2"}]},
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
            {"role": "assistant", "content": "x", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "ok"},
            {"role": "assistant", "content": None},
            {"role": "function", "content": "old"},
            tools=[
                {"type": "function", "function": {"name": "exec", "parameters": {"a": 1}}},
                {"type": "function", "function": {"name": "bare"}},
                {"type": "custom"},
            ],
            stream=True,
        )
    )

    assert conversation.turns == (
        UserMessage(("Hi",)),
        UserMessage(("a",)),
        AssistantText("x"),
        ToolCall("c1", "exec", {"command": "id"}),
        ToolResult("c1", "ok"),
    )
    assert conversation.system == "S1\n\nS2"
    assert conversation.tools == (PromptTool("exec", {"a": 1}), PromptTool("bare"))
    assert conversation.is_streamed


def test_choices_are_read() -> None:
    assert parse(body()).choice == ToolChoice("auto")
    assert parse(body(tool_choice="none")).choice == ToolChoice("none")
    assert parse(body(tool_choice="required")).choice == ToolChoice("required")
    named = {"type": "function", "function": {"name": "exec"}}
    assert parse(body(tool_choice=named)).choice == ToolChoice("required", "exec")


def test_usage_is_streamed_when_it_is_asked_for() -> None:
    wish = {"include_usage": True}
    given = chunks(parse(body(stream=True, stream_options=wish)), Reply("Hello"))

    assert given[-1]["choices"] == []
    assert given[-1]["usage"]["completion_tokens"] == 2
