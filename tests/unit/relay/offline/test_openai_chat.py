"""OpenAI's Chat Completions format."""

import json
from typing import Any

from chowder_local.relay.offline.conversation import (
    Answered,
    Called,
    Choice,
    Conversation,
    Reply,
    Returned,
    Said,
    Tool,
)
from chowder_local.relay.offline.openai_chat import read, write
from chowder_local.upstream.sse import EventReader
from tests.unit.relay.offline.steps import as_bytes

CALL = Reply(calls=(Called("call_1", "exec", {"command": "id -u"}),))


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "messages": list(messages), **more}


def chunks(conversation: Conversation, reply: Reply) -> list[dict[str, Any]]:
    *data, done = EventReader().feed(as_bytes(write(conversation, reply, 7)))
    assert done.data == "[DONE]"
    return [json.loads(event.data or "") for event in data]


def test_a_whole_conversation_is_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": "{}"}}
    conversation = read(
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
        Said(("Hi",)),
        Said(("a",)),
        Answered("x"),
        Called("c1", "exec"),
        Returned("c1", "ok"),
    )
    assert conversation.system == "S1\n\nS2"
    assert conversation.tools == (Tool("exec", {"a": 1}), Tool("bare"))
    assert conversation.is_streamed


def test_choices_are_read() -> None:
    assert read(body()).choice == Choice("auto")
    assert read(body(tool_choice="none")).choice == Choice("none")
    assert read(body(tool_choice="required")).choice == Choice("required")
    named = {"type": "function", "function": {"name": "exec"}}
    assert read(body(tool_choice=named)).choice == Choice("required", "exec")


def test_a_text_is_written_whole() -> None:
    completion = json.loads(as_bytes(write(read(body()), Reply("Hello"), 7)))

    (choice,) = completion["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")
    assert completion["object"] == "chat.completion"
    assert completion["usage"]["completion_tokens"] == 2


def test_a_call_is_written_whole() -> None:
    (choice,) = json.loads(as_bytes(write(read(body()), CALL, 7)))["choices"]

    (call,) = choice["message"]["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("call_1", "exec")
    assert json.loads(call["function"]["arguments"]) == {"command": "id -u"}
    assert choice["finish_reason"] == "tool_calls"


def test_a_text_is_written_in_several_chunks() -> None:
    given = chunks(read(body(stream=True)), Reply("one two three four five"))

    texts = [each["choices"][0]["delta"].get("content", "") for each in given]
    assert "".join(texts) == "one two three four five"
    assert len(texts) == 4
    assert given[-1]["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in given[-1]


def test_usage_is_streamed_when_it_is_asked_for() -> None:
    wish = {"include_usage": True}
    given = chunks(read(body(stream=True, stream_options=wish)), Reply("Hello"))

    assert given[-1]["choices"] == []
    assert given[-1]["usage"]["completion_tokens"] == 2


def test_a_call_is_written_in_chunks() -> None:
    given = chunks(read(body(stream=True)), CALL)

    calls = [each["choices"][0]["delta"]["tool_calls"][0] for each in given[:-1]]
    assert calls[0]["id"] == "call_1"
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"command": "id -u"}
    assert given[-1]["choices"][0]["finish_reason"] == "tool_calls"
