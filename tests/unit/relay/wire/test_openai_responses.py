"""OpenAI's Responses format."""

import json
from collections.abc import Iterable
from typing import Any

from chowder_local.core.domain import ModelProvider
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
from chowder_local.relay.wire.openai import Responses
from chowder_local.relay.wire.wire_format import ParsedRequest
from chowder_local.upstream.sse import EventReader
from tests.scripted.model_calls import conversation_of
from tests.unit.relay.wire.steps import as_bytes

CALL = Reply(calls=(ToolCall("call_1", "exec", {"command": "id -u"}),))


def parse(content: dict[str, Any]) -> Conversation:
    return conversation_of(ModelProvider.OPENAI, "responses", content)


def render(conversation: Conversation, reply: Reply) -> Iterable[bytes | StreamStep]:
    return ParsedRequest(conversation, Responses(7)).render(reply).steps


def body(given: Any = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "input": given, **more}


def events(conversation: Conversation, reply: Reply) -> list[dict[str, Any]]:
    read_events = EventReader().feed(as_bytes(render(conversation, reply)))
    data = [json.loads(event.data or "") for event in read_events]
    assert [event.name for event in read_events] == [each["type"] for each in data]
    assert [each["sequence_number"] for each in data] == list(range(len(data)))
    return data


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
    assert conversation.tools == (Tool("exec", {"type": "object"}), Tool("bare"))
    assert conversation.is_streamed


def test_choices_are_read() -> None:
    assert parse(body()).choice == ToolChoice("auto")
    assert parse(body(tool_choice="none")).choice == ToolChoice("none")
    assert parse(body(tool_choice="required")).choice == ToolChoice("required")
    named = {"type": "function", "name": "exec"}
    assert parse(body(tool_choice=named)).choice == ToolChoice("required", "exec")


def test_a_text_is_written_whole() -> None:
    conversation = parse(body())

    response = json.loads(as_bytes(render(conversation, Reply("Hello"))))

    assert response["status"] == "completed"
    assert response["created_at"] == 7
    assert response["output"][0]["content"][0]["text"] == "Hello"
    assert response["usage"]["total_tokens"] == conversation.input_tokens + 2


def test_a_call_is_written_whole() -> None:
    response = json.loads(as_bytes(render(parse(body()), CALL)))

    (item,) = response["output"]
    assert (item["type"], item["call_id"], item["name"]) == ("function_call", "call_1", "exec")
    assert json.loads(item["arguments"]) == {"command": "id -u"}


def test_a_text_is_written_in_several_deltas() -> None:
    given = events(parse(body(stream=True)), Reply("one two three four five"))

    deltas = [e["delta"] for e in given if e["type"] == "response.output_text.delta"]
    assert len(deltas) == 2
    assert "".join(deltas) == "one two three four five"
    assert [e["type"] for e in given if e["type"] != "response.output_text.delta"] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert given[0]["response"]["output"] == []
    assert given[-1]["response"]["output"][0]["content"][0]["text"] == "one two three four five"


def test_a_call_is_written_in_deltas() -> None:
    given = events(parse(body(stream=True)), CALL)

    deltas = [e["delta"] for e in given if e["type"] == "response.function_call_arguments.delta"]
    assert json.loads("".join(deltas)) == {"command": "id -u"}
    (done,) = [e for e in given if e["type"] == "response.function_call_arguments.done"]
    assert (done["name"], json.loads(done["arguments"])) == ("exec", {"command": "id -u"})
    assert given[2]["item"]["arguments"] == ""
    assert given[-2]["item"]["status"] == "completed"
