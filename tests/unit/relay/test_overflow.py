"""Prompts that are too long: what providers say of them, and which cannot be helped."""

from __future__ import annotations

import json

import pytest

from chowder_local.relay.overflow import Overflow, is_hopeless, overflow_of


@pytest.mark.parametrize(
    ("words", "overflow"),
    [
        ("request (9000 tokens) exceeds the available context size (8192 tokens), try more",
         Overflow(9000, 8192)),
        ("This model's maximum context length is 4096 tokens. However, you requested 9100 tokens "
         "(9000 in the messages, 100 in the completion). Please reduce the length.",
         Overflow(9000, 4096)),
        ("This model's maximum context length is 4096 tokens. However, you requested 9000 tokens "
         "in the messages, Please reduce the length of the messages.",
         Overflow(9000, 4096)),
        ("This model's maximum context length is 4096 tokens. However, your request has 9000 input "
         "tokens. Please reduce the length of the input messages.",
         Overflow(9000, 4096)),
        ("Trying to keep the first 9000 tokens when context the overflows. However, the model is "
         "loaded with context length of only 4096 tokens, which is not enough.",
         Overflow(9000, 4096)),
        ("the request exceeds the available context size. try increasing the context size", None),
    ],
)  # fmt: skip
def test_the_numbers_of_a_refusal_are_read(words: str, overflow: Overflow | None) -> None:
    assert overflow_of(words) == overflow


def call(*, history: int, last: str = "x" * 400) -> bytes:
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
        (call(history=0), 1000, True),
        (call(history=4000), 2000, True),
        (call(history=8000), 1000, False),
        # It is the message that is too long.
        (call(history=400, last="x" * 40_000), 10_000, True),
        # An image's characters are no measure.
        (call(history=8000, last=f"data:image/png;base64,{'A' * 90_000}"), 1000, False),
        (b"{}", 9000, False),
        (b"oops", 9000, False),
    ],
)
def test_what_stays_of_a_prompt_may_be_too_long_by_itself(
    body: bytes, prompt_tokens: int, is_so: bool
) -> None:
    assert is_hopeless(body, Overflow(prompt_tokens, limit_tokens=500)) is is_so
