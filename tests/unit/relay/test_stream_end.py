"""When all of a provider's streamed answer has come."""

from __future__ import annotations

import json
from typing import Any

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.stream_check import StreamCheck
from chowder_local.relay.stream_end import StreamEnd
from tests.unit.relay.test_stream_check import CALL, DONE, WORDS, chunk

ANTHROPIC, OPENAI, GEMINI = ModelProvider


def is_whole(follower: StreamCheck | StreamEnd, stream: str) -> bool:
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
    assert {stream: is_whole(StreamCheck(), stream) for stream in cases} == cases


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
        if is_whole(StreamEnd(provider), event(data)) is not expected
    ]
    assert wrong == []


def test_what_comes_after_the_end_and_what_is_too_long_for_an_event_is_let_by() -> None:
    after = event({"type": "response.completed"}) + event({"type": "response.output_text.delta"})
    assert is_whole(StreamEnd(OPENAI), after)
    endless = StreamEnd(OPENAI)
    for _ in range(17):
        endless.feed(b"x" * 1024 * 1024)
    endless.feed(b"\n\n" + event({"type": "response.completed"}).encode())
    assert not endless.is_whole
