"""Recorded requests and answers, and their comparison."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.recordings import (
    RecordedAnswer,
    RecordedCall,
    RecordedRequest,
    mask_variable_parts,
)
from chowder_local.relay.wire.conversation import (
    AssistantText,
    Conversation,
    ToolCall,
    ToolResult,
    UserMessage,
)

TURNS = (
    UserMessage(("[Tue 2026-11-24 22:48 UTC] Hi",)),
    AssistantText("Hello"),
    UserMessage(("What is in a.txt?",)),
    ToolCall("call_1", "read", {"path": "a.txt"}),
    ToolResult("call_1", "nothing"),
    ToolCall("call_2", "list"),
)


def recorded_request(
    *turns: UserMessage | AssistantText | ToolCall | ToolResult,
) -> RecordedRequest:
    return RecordedRequest.from_conversation(
        ModelProvider.OPENAI, Conversation("gpt-4o", "You are.", turns)
    )


def test_a_request_is_reduced_to_readable_turns() -> None:
    assert recorded_request(*TURNS).turns == [
        {"said": "Hi"},
        {"answered": "Hello"},
        {"said": "What is in a.txt?"},
        {"called": "read", "with": {"path": "a.txt"}},
        {"returned": "nothing"},
        {"called": "list"},
    ]


def test_the_lines_of_a_request_begin_with_provider_and_model() -> None:
    assert recorded_request(*TURNS).lines()[:4] == [
        "provider: openai",
        "model: gpt-4o",
        "is_streamed: False",
        "said: Hi",
    ]
    assert recorded_request(*TURNS).lines()[6:8] == [
        "called: read {'path': 'a.txt'}",
        "returned: nothing",
    ]


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("at 2026-11-24T22:48:12.5Z", "at <time>"),
        ("on 2026-11-24", "on <time>"),
        ("2026-11-24 22:48", "<time>"),
        ("it is 22:48:12", "it is <time>"),
        ("since 1764024000 or 1764024000123", "since <time> or <time>"),
        ("id 3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d", "id <id>"),
        ("call_abc123DEF and toolu_01A2b3C4", "<id> and <id>"),
        ("sha 9f2c4e0011223344556677", "sha <id>"),
        ("order 12345, in 7 days", "order 12345, in 7 days"),
        ("call_me", "call_me"),
    ],
)
def test_times_and_ids_are_masked(text: str, stays: str) -> None:
    assert mask_variable_parts(text) == stays


def test_a_stream_is_kept_and_replayed_event_by_event() -> None:
    body = b"event: a\ndata: 1\n\ndata: [DONE]\n\n"
    kept = RecordedAnswer.from_body(200, "text/event-stream; charset=utf-8", body)
    assert kept.events == ["event: a\ndata: 1", "data: [DONE]"]
    assert kept.text is None
    assert b"".join(kept.chunks()) == body


def test_an_answer_that_is_not_streamed_is_kept_as_it_is() -> None:
    kept = RecordedAnswer.from_body(429, "application/json", b'{"error": 1}', "3")
    assert (kept.text, kept.events, kept.retry_after) == ('{"error": 1}', None, "3")
    assert b"".join(kept.chunks()) == b'{"error": 1}'


def test_an_entry_of_another_format_is_refused() -> None:
    entry = RecordedCall(asked=recorded_request(), answered=RecordedAnswer(status=200, text=""))
    content = json.loads(entry.model_dump_json()) | {"format": 2}
    with pytest.raises(ValidationError, match="format"):
        RecordedCall.model_validate(content)
