"""Prompts that no compaction can make short enough."""

from __future__ import annotations

import json

import pytest

from chowder_local.relay.compaction import is_hopeless
from chowder_local.relay.wire.errors import Overflow
from tests.scripted.model_calls import model_call


def body_of(*, history: int, last: str = "x" * 400) -> bytes:
    """A call whose system prompt and tools are about 4,000 characters."""
    past = [{"role": "user", "content": "y" * 100}, {"role": "assistant", "content": "z" * 100}]
    messages = [
        {"role": "system", "content": "s" * 3000},
        *past * (history // 200),
        {"role": "user", "content": [{"type": "text", "text": last}]},
    ]
    return json.dumps({"messages": messages, "tools": [{"name": "t" * 1000}]}).encode()


@pytest.mark.parametrize(
    ("body", "prompt_tokens", "is_so"),
    [
        (body_of(history=0), 1000, True),
        (body_of(history=4000), 2000, True),
        (body_of(history=8000), 1000, False),
        # The message itself is too long.
        (body_of(history=400, last="x" * 40_000), 10_000, True),
        # An image's characters do not count.
        (body_of(history=8000, last=f"data:image/png;base64,{'A' * 90_000}"), 1000, False),
        (b"{}", 9000, False),
        (b"oops", 9000, False),
    ],
)
def test_a_prompt_is_hopeless_if_the_parts_that_stay_exceed_the_limit(
    body: bytes, prompt_tokens: int, is_so: bool
) -> None:
    call = model_call("lab", "chat/completions", body)
    assert is_hopeless(call, Overflow(prompt_tokens, limit_tokens=500)) is is_so
