"""What a person said last, in each provider's format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.relay.last_words import last_words

MESSAGES = [
    {"role": "user", "content": "First."},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Second?"},
]


@pytest.mark.parametrize(
    ("provider", "path", "body"),
    [
        (ModelProvider.ANTHROPIC, "v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
        (ModelProvider.OPENAI, "chat/completions", {"messages": MESSAGES}),
        (ModelProvider.OPENAI, "responses", {"input": MESSAGES}),
        (
            ModelProvider.GEMINI,
            "models/gemini-2.5-flash:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "Second?"}]}]},
        ),
    ],
)
def test_the_latest_message_is_found(
    provider: ModelProvider, path: str, body: dict[str, Any]
) -> None:
    asked = json.dumps({"model": "m"} | body).encode()
    assert last_words(provider, path, asked) == "Second?"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":"m","messages":[]}', b"\xff"])
def test_where_there_is_none_there_is_none(body: bytes) -> None:
    assert last_words(ModelProvider.ANTHROPIC, "v1/messages", body) is None
    assert last_words(ModelProvider.OPENAI, "embeddings", body) is None
