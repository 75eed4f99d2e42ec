"""Anthropic's Messages format."""

from typing import Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    PromptTool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UserMessage,
)
from tests.scripted.model_calls import conversation_of


def parse(content: dict[str, Any]) -> Conversation:
    return conversation_of(ModelProvider.ANTHROPIC, "v1/messages", content)


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "claude-x", "messages": list(messages), **more}


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
    assert conversation.tools == (PromptTool("exec", {"type": "object"}), PromptTool("web"))
    assert conversation.is_streamed
    assert conversation.choice == ToolChoice()


def test_choices_are_read() -> None:
    def choice(given: dict[str, Any]) -> ToolChoice:
        return parse(body(tool_choice=given)).choice

    assert choice({"type": "auto"}) == ToolChoice("auto")
    assert choice({"type": "any"}) == ToolChoice("required")
    assert choice({"type": "none"}) == ToolChoice("none")
    assert choice({"type": "tool", "name": "exec"}) == ToolChoice("required", "exec")
