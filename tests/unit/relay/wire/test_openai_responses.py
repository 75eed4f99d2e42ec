"""OpenAI's Responses format."""

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
    return conversation_of(ModelProvider.OPENAI, "responses", content)


def body(given: Any = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "input": given, **more}


def test_a_text_is_a_conversation() -> None:
    conversation = parse(body(instructions="S"))

    assert conversation.turns == (UserMessage(("Hi",)),)
    assert conversation.system == "S"


def test_a_whole_conversation_is_read() -> None:
    call = {"type": "function_call", "name": "exec"}
    conversation = parse(
        body(
            [
                {"role": "system", "content": [{"type": "input_text", "text": "S1"}]},
                {"role": "developer", "content": "S2"},
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}],
                },
                {"role": "user", "content": "b"},
                {"type": "reasoning", "summary": []},
                {**call, "call_id": "c1", "arguments": '{"command": "id"}'},
                {**call, "call_id": "c2", "arguments": '{"command": '},
                {"type": "function_call_output", "call_id": "c1", "output": "ok"},
                {"role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
            ],
            tools=[
                {"type": "function", "name": "exec", "parameters": {"type": "object"}},
                {"type": "function", "name": "bare", "parameters": None},
                {"type": "web_search"},
            ],
            stream=True,
        )
    )

    assert conversation.turns == (
        UserMessage(("a",)),
        UserMessage(("b",)),
        ToolCall("c1", "exec", {"command": "id"}),
        ToolCall("c2", "exec", {"…": '{"command": '}),
        ToolResult("c1", "ok"),
        AssistantText("x"),
    )
    assert conversation.system == "S1\n\nS2"
    assert conversation.tools == (PromptTool("exec", {"type": "object"}), PromptTool("bare"))
    assert conversation.is_streamed


def test_choices_are_read() -> None:
    assert parse(body()).choice == ToolChoice("auto")
    assert parse(body(tool_choice="none")).choice == ToolChoice("none")
    assert parse(body(tool_choice="required")).choice == ToolChoice("required")
    named = {"type": "function", "name": "exec"}
    assert parse(body(tool_choice=named)).choice == ToolChoice("required", "exec")
