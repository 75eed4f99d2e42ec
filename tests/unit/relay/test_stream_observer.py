"""Which streamed answers are unusable, and when an answer is complete."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.calls import wire_format
from chowder_local.relay.metering import CompletionObserver, EndObserver, StreamObserver

ANTHROPIC, OPENAI, GEMINI = ModelProvider


def chunk(finish_reason: str | None = None, **delta: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


WORDS, DONE = chunk(content="Once upon"), "data: [DONE]\n\n"
CALL = chunk(tool_calls=[{"index": 0, "function": {"name": "exec", "arguments": '{"comm'}}])


def problem(stream: str) -> str | None:
    check = CompletionObserver()
    for byte in stream.encode():
        check.feed(bytes([byte]))
    check.end()
    return check.problem


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (WORDS, "the answer broke off before its end"),
        ("", "the answer broke off before its end"),
        (WORDS + "data: {oops\n\n", "an event is not a completion chunk: {oops"),
        ("data: [1]\n\n", "an event is not a completion chunk: [1]"),
        (WORDS + 'data: {"error": {"message": "out of memory", "code": 500}}\n\n' + DONE,
         "out of memory"),
        (WORDS + 'error: {"code": 500, "message": "the context size is exceeded"}\n\n',
         "the context size is exceeded"),
        ('data: {"object": "error", "message": "engine is dead"}\n\n' + DONE, "engine is dead"),
        (chunk(reasoning_content="Hm") + chunk("length") + DONE,
         "the answer reached the token limit before it had any text"),
        (CALL + chunk("length") + DONE, "the answer reached the token limit within a tool call"),
        (chunk("stop", content="") + DONE, "the answer has no text and no tool call"),
    ],
)  # fmt: skip
def test_an_unusable_answer_has_a_problem_that_says_why(stream: str, words: str) -> None:
    assert problem(stream) == words


@pytest.mark.parametrize(
    "stream",
    [
        WORDS + chunk("stop") + 'data: {"choices": [], "usage": {}}\n\n' + DONE,
        WORDS + chunk("length") + DONE,
        ": waiting\n\n" + CALL + chunk("tool_calls") + DONE,
        # Some providers send no `[DONE]`.
        WORDS + chunk("stop"),
    ],
)
def test_a_usable_answer_has_no_problem(stream: str) -> None:
    assert problem(stream) is None


def is_whole(follower: StreamObserver, stream: str) -> bool:
    for byte in stream.encode():
        follower.feed(bytes([byte]))
    found = follower.is_whole
    follower.end()
    return found


def event(data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"


def test_a_named_providers_answer_is_whole_at_its_finish_reason_or_done_mark() -> None:
    cases = {
        WORDS: False,
        WORDS + DONE: True,
        WORDS + chunk("stop"): True,
        CALL + chunk("tool_calls"): True,
        # An unusable answer is never whole.
        chunk("stop"): False,
        CALL + chunk("length"): False,
        WORDS + "data: {oops\n\n" + chunk("stop"): False,
    }
    assert {stream: is_whole(CompletionObserver(), stream) for stream in cases} == cases


def test_a_large_providers_answer_is_whole_at_its_finish_reason() -> None:
    cases = [
        (ANTHROPIC, {"type": "message_start", "message": {"stop_reason": None}}, False),
        (ANTHROPIC, {"type": "message_delta", "delta": {"stop_reason": None}}, False),
        (ANTHROPIC, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, True),
        (ANTHROPIC, {"type": "message_stop"}, True),
        (OPENAI, {"type": "response.output_text.delta", "delta": '"response.completed"'}, False),
        (OPENAI, {"type": "response.completed"}, True),
        (OPENAI, {"type": "response.incomplete"}, True),
        (OPENAI, {"type": "response.failed"}, False),
        (OPENAI, {"choices": [{"finish_reason": None}]}, False),
        (OPENAI, {"choices": [{"finish_reason": "length"}]}, True),
        (GEMINI, {"candidates": [{"content": {"parts": [{"text": "finishReason"}]}}]}, False),
        (GEMINI, {"candidates": [{"finishReason": "STOP"}]}, True),
        # Shapes that no provider sends.
        (ANTHROPIC, ["message_stop"], False),
        (OPENAI, {"finish_reason": "stop"}, False),
        (GEMINI, "finishReason", False),
    ]
    wrong = [
        (provider, data)
        for provider, data, expected in cases
        if is_whole(EndObserver(wire_format(provider)), event(data)) is not expected
    ]
    assert wrong == []


def test_events_after_the_end_and_oversized_events_are_ignored() -> None:
    after = event({"type": "response.completed"}) + event({"type": "response.output_text.delta"})
    assert is_whole(EndObserver(wire_format(OPENAI)), after)
    endless = EndObserver(wire_format(OPENAI))
    for _ in range(17):
        endless.feed(b"x" * 1024 * 1024)
    endless.feed(b"\n\n" + event({"type": "response.completed"}).encode())
    assert not endless.is_whole
