"""Which streamed answers OpenClaw can make nothing of, and when all of one has come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.stream_observer import CompletionObserver, EndObserver, StreamObserver
from chowder_local.relay.wire.formats import wire_format

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
        (WORDS, "it broke off before its end"),
        ("", "it broke off before its end"),
        (WORDS + "data: {oops\n\n", "it sent something else than a chunk of an answer: {oops"),
        ("data: [1]\n\n", "it sent something else than a chunk of an answer: [1]"),
        (WORDS + 'data: {"error": {"message": "out of memory", "code": 500}}\n\n' + DONE,
         "out of memory"),
        (WORDS + 'error: {"code": 500, "message": "the context size is exceeded"}\n\n',
         "the context size is exceeded"),
        ('data: {"object": "error", "message": "engine is dead"}\n\n' + DONE, "engine is dead"),
        (chunk(reasoning_content="Hm") + chunk("length") + DONE,
         "it met its limit of tokens before it said anything"),
        (CALL + chunk("length") + DONE, "it met its limit of tokens within a tool call"),
        (chunk("stop", content="") + DONE, "it ended without saying anything"),
    ],
)  # fmt: skip
def test_an_answer_of_no_use_has_words_that_say_why(stream: str, words: str) -> None:
    assert problem(stream) == words


@pytest.mark.parametrize(
    "stream",
    [
        WORDS + chunk("stop") + 'data: {"choices": [], "usage": {}}\n\n' + DONE,
        WORDS + chunk("length") + DONE,
        ": waiting\n\n" + CALL + chunk("tool_calls") + DONE,
        # Some end without the mark of OpenAI's.
        WORDS + chunk("stop"),
    ],
)
def test_an_answer_that_can_be_used_has_none(stream: str) -> None:
    assert problem(stream) is None


def is_whole(follower: StreamObserver, stream: str) -> bool:
    for byte in stream.encode():
        follower.feed(bytes([byte]))
    found = follower.is_whole
    follower.end()
    return found


def event(data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"


def test_an_answer_of_a_named_provider_is_whole_once_its_end_or_the_reason_of_it_has_come() -> None:
    cases = {
        WORDS: False,
        WORDS + DONE: True,
        WORDS + chunk("stop"): True,
        CALL + chunk("tool_calls"): True,
        # What is of no use to the agent is no answer, however it ends.
        chunk("stop"): False,
        CALL + chunk("length"): False,
        WORDS + "data: {oops\n\n" + chunk("stop"): False,
    }
    assert {stream: is_whole(CompletionObserver(), stream) for stream in cases} == cases


def test_an_answer_of_a_large_provider_is_whole_once_the_reason_of_its_end_has_come() -> None:
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
        # No provider's, but they come by all the same.
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


def test_what_comes_after_the_end_and_what_is_too_long_for_an_event_is_let_by() -> None:
    after = event({"type": "response.completed"}) + event({"type": "response.output_text.delta"})
    assert is_whole(EndObserver(wire_format(OPENAI)), after)
    endless = EndObserver(wire_format(OPENAI))
    for _ in range(17):
        endless.feed(b"x" * 1024 * 1024)
    endless.feed(b"\n\n" + event({"type": "response.completed"}).encode())
    assert not endless.is_whole
