"""Anthropic's Messages format."""

import json
from collections.abc import Iterable
from typing import Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.wire.anthropic import Messages
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    Reply,
    StreamStep,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)
from chowder_local.relay.wire.wire_format import ParsedRequest
from chowder_local.upstream.sse import EventReader
from tests.scripted.model_calls import conversation_of
from tests.unit.relay.wire.steps import as_bytes

CALL = Reply(calls=(ToolCall("call_1", "exec", {"command": "id -u"}),))


def parse(content: dict[str, Any]) -> Conversation:
    return conversation_of(ModelProvider.ANTHROPIC, "v1/messages", content)


def render(conversation: Conversation, reply: Reply) -> Iterable[bytes | StreamStep]:
    return ParsedRequest(conversation, Messages()).render(reply).steps


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "claude-x", "messages": list(messages), **more}


def events(conversation: Conversation, reply: Reply) -> list[dict[str, Any]]:
    read_events = EventReader().feed(as_bytes(render(conversation, reply)))
    data = [json.loads(event.data or "") for event in read_events]
    assert [event.name for event in read_events] == [each["type"] for each in data]
    return data


def test_a_whole_conversation_is_read() -> None:
    conversation = parse(
        body(
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "exec", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "ok"}],
                    },
                    {"type": "tool_result", "tool_use_id": "t2"},
                    {"type": "text", "text": "and"},
                ],
            },
            system=[{"type": "text", "text": "S1"}, {"type": "text", "text": "S2"}],
            tools=[{"name": "exec", "input_schema": {"type": "object"}}, {"name": "web"}],
            stream=True,
        )
    )

    assert conversation.turns == (
        UserMessage(("Hi",)),
        AssistantText("Hello"),
        UserMessage(("a",)),
        ToolCall("t1", "exec", {"a": 1}),
        ToolResult("t1", "ok"),
        ToolResult("t2", ""),
        UserMessage(("and",)),
    )
    assert (conversation.model, conversation.system) == ("claude-x", "S1\nS2")
    assert conversation.tools == (Tool("exec", {"type": "object"}), Tool("web"))
    assert conversation.is_streamed
    assert conversation.choice == ToolChoice()


def test_choices_are_read() -> None:
    def choice(given: dict[str, Any]) -> ToolChoice:
        return parse(body(tool_choice=given)).choice

    assert choice({"type": "auto"}) == ToolChoice("auto")
    assert choice({"type": "any"}) == ToolChoice("required")
    assert choice({"type": "none"}) == ToolChoice("none")
    assert choice({"type": "tool", "name": "exec"}) == ToolChoice("required", "exec")


def test_a_text_is_written_whole() -> None:
    conversation = parse(body({"role": "user", "content": "Hi"}, system="S"))

    assert conversation.system == "S"
    message = json.loads(as_bytes(render(conversation, Reply("Hello"))))

    assert message["content"] == [{"type": "text", "text": "Hello"}]
    assert message["stop_reason"] == "end_turn"
    assert message["model"] == "claude-x"
    assert message["usage"] == {
        "input_tokens": conversation.input_tokens,
        "output_tokens": 2,
    }


def test_a_call_is_written_whole() -> None:
    message = json.loads(as_bytes(render(parse(body()), CALL)))

    assert message["content"] == [
        {"type": "tool_use", "id": "toolu_1", "name": "exec", "input": {"command": "id -u"}}
    ]
    assert message["stop_reason"] == "tool_use"


def test_a_text_is_written_in_several_deltas() -> None:
    given = events(parse(body(stream=True)), Reply("one two three four five"))

    deltas = [each["delta"]["text"] for each in given if each["type"] == "content_block_delta"]
    assert len(deltas) == 2
    assert "".join(deltas) == "one two three four five"
    assert [each["type"] for each in given if "delta" not in each["type"]] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_stop",
    ]
    assert given[0]["message"]["content"] == []
    assert given[-2]["delta"]["stop_reason"] == "end_turn"


def test_a_call_is_written_in_deltas() -> None:
    given = events(parse(body(stream=True)), CALL)

    assert given[1]["content_block"] == {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "exec",
        "input": {},
    }
    parts = [e["delta"]["partial_json"] for e in given if e["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"command": "id -u"}
    assert given[-2]["delta"]["stop_reason"] == "tool_use"
