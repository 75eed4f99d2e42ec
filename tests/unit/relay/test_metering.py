"""Tokens, read from answers as real providers and the offline model give them."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.calls import wire_format
from chowder_local.relay.metering import LONGEST_BYTES, Meter
from chowder_local.relay.offline_model import decide
from chowder_local.relay.wire.wire_format import MAX_TOKENS, ParsedRequest, Usage
from tests.scripted.model_calls import model_call
from tests.unit.relay.wire.steps import as_bytes

ANTHROPIC, OPENAI, GEMINI = ModelProvider
SIZES = (1, 2, 3, 7, 64, 1_000_000)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)


def measured(provider: ModelProvider, answer: bytes, size: int = 1_000_000) -> Usage | None:
    meter = Meter(wire_format(provider))
    for start in range(0, len(answer), size):
        meter.feed(answer[start : start + size])
    return meter.usage


ANTHROPIC_STREAM = sse(
    {
        "type": "message_start",
        "message": {
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 200,
                "cache_read_input_tokens": 3000,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 150,
                    "ephemeral_1h_input_tokens": 50,
                },
                "output_tokens": 1,
            }
        },
    },
    {"type": "content_block_delta", "delta": {"text": 'She said "usage": {"input_tokens": 9}'}},
    {"type": "message_delta", "usage": {"output_tokens": 42, "cache_read_input_tokens": None}},
    {"type": "message_stop"},
)
RESPONSES_STREAM = sse(
    {"type": "response.created", "response": {"usage": None, "tools": [{"usage": {"type": "x"}}]}},
    {"type": "response.output_text.delta", "delta": "usage"},
    {
        "type": "response.completed",
        "response": {
            "output": [{"text": "é" * 5000}],
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 12},
                "total_tokens": 120,
            },
        },
    },
)
CHAT_STREAM = sse(
    {"choices": [{"delta": {"content": "Hi"}}], "usage": None},
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    },
)
GEMINI_STREAM = sse(
    {"candidates": [{}], "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 1}},
    {
        "candidates": [{}],
        "usageMetadata": {
            "promptTokenCount": 8,
            "toolUsePromptTokenCount": 4,
            "cachedContentTokenCount": 6,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 9,
        },
    },
)


STREAMS = [
    (ANTHROPIC, ANTHROPIC_STREAM, Usage(3210, 3000, 200, 50, 42)),
    (OPENAI, RESPONSES_STREAM, Usage(100, 60, 5, 0, 20)),
    (OPENAI, CHAT_STREAM, Usage(7, 2, 0, 0, 3)),
    (GEMINI, GEMINI_STREAM, Usage(12, 6, 0, 0, 14)),
]


def test_usage_does_not_depend_on_how_a_stream_is_chunked() -> None:
    unlike = {}
    for (provider, answer, usage), size in product(STREAMS, SIZES):
        if (told := measured(provider, answer, size)) != usage:
            unlike[provider, usage, size] = told
    assert not unlike


@pytest.mark.parametrize("size", SIZES)
def test_usage_is_read_from_compact_and_indented_json(size: int) -> None:
    answer = {"content": [{"input": {"usage": "none"}}], "usage": {"input_tokens": 5}}
    for indent in (None, 2):
        text = json.dumps(answer, indent=indent).encode()
        assert measured(ANTHROPIC, text, size) == Usage(input_tokens=5)


def test_embeddings_cost_input_alone() -> None:
    answer = json.dumps({"data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    assert measured(OPENAI, answer.encode()) == Usage(input_tokens=3)


BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.mark.parametrize(
    ("provider", "path", "query", "body"),
    [
        (ANTHROPIC, "v1/messages", "", BODY),
        (OPENAI, "chat/completions", "", BODY | {"stream_options": {"include_usage": True}}),
        (OPENAI, "responses", "", {"model": "m", "input": "Hi", "stream": True}),
        (OPENAI, "embeddings", "", {"model": "m", "input": "Hi"}),
        (
            GEMINI,
            "models/m:streamGenerateContent",
            "alt=sse",
            {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        ),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_the_offline_model_is_metered_like_any_other(
    provider: ModelProvider, path: str, query: str, body: dict[str, Any], is_streamed: bool
) -> None:
    if not is_streamed:
        path, body = path.replace("streamG", "g"), body | {"stream": False}
    answer = model_call(provider, path, body, query).parse()
    if isinstance(answer, ParsedRequest):
        answer = answer.render(decide(answer.conversation))
    assert answer.status == 200
    usage = measured(provider, as_bytes(answer.steps))
    assert usage is not None
    assert usage.input_tokens > 0
    assert path == "embeddings" or usage.output_tokens > 0


NO_USAGE = [
    b"",
    b'{"error": {"message": "no"}}',
    b'{"usage": null}',
    b'{"usage": "much"}',
    b'{"usage" is what it says}',
    b'{"usage": {"input_tokens": "many"}}',
    b'{"usage": {"input_tokens": -1}}',
    b'{"usage": {"input_tokens": 1e3}}',
    b'{"usage": {"output_tokens": 1}}',
    b'{"usage": {"input_tokens": %d}}' % (MAX_TOKENS + 1),
    b'{"usage": {"input_tokens": 1, "cache_creation": 3}}',
    b'{"usage": {"input_tokens": 1, "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    b'{"usage": {"input_tokens": 1',
    b'"usage"',
    b'"usage":',
]


def test_an_answer_without_valid_usage_has_none() -> None:
    # Byte by byte, too, unless that takes seconds.
    sized = [(each, size) for each in NO_USAGE for size in (1 + len(each) // 100, 1_000_000)]
    assert not [each for each in sized if measured(ANTHROPIC, *each) is not None]


@pytest.mark.parametrize("size", SIZES)
def test_an_unterminated_usage_object_does_not_hide_the_next_one(size: int) -> None:
    lost = b'{"usage": {"input_tokens": 1, "x": "' + b"y" * (LONGEST_BYTES + 10)
    assert measured(ANTHROPIC, lost + b'"usage": {"input_tokens": 5}', size) == Usage(5)
    assert measured(ANTHROPIC, b'"usage": {,"usage": {"input_tokens": 5}', size) == Usage(5)


def test_the_meter_buffers_no_more_than_a_usage_object() -> None:
    meter = Meter(wire_format(ANTHROPIC))
    meter.feed(b'{"usage": {"x": "')
    longest = 0
    for _ in range(1000):
        meter.feed(b"y" * 100)
        longest = max(longest, len(meter._held))
    assert longest <= LONGEST_BYTES
