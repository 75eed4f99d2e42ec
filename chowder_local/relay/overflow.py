"""Prompts that are longer than a model takes: what providers say of them, and what can help (pure).

OpenClaw shortens a conversation whose prompt was refused so. Its system prompt, its tools and what
the person said last stay, so there are prompts for which that is of no use.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_NUMBERS = (
    # llama.cpp
    r"request \((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tok",
    # OpenAI, vLLM, llama-cpp-python; newer ones of vLLM
    r"maximum context length is (?P<limit>\d+) tok.*?(?P<prompt>\d+) (?:tokens )?in the messages",
    r"maximum context length is (?P<limit>\d+) tok.*?(?:has|resulted in) (?P<prompt>\d+) (?:inp|t)",
    # LM Studio
    r"keep the first (?P<prompt>\d+) tokens .*?context length of only (?P<limit>\d+) tokens",
)
_PATTERNS = tuple(re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in _NUMBERS)
_MARGIN = 1.3
"""By how much what stays has to be too long; a token may be two characters or five."""
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Overflow(NamedTuple):
    """Tokens of a prompt, and how many the model takes."""

    prompt_tokens: int
    limit_tokens: int

    def __str__(self) -> str:
        """The words that OpenClaw knows and takes the numbers from."""
        return f"prompt is too long: {self.prompt_tokens} tokens > {self.limit_tokens} maximum"


def overflow_of(words: str) -> Overflow | None:
    """The numbers in a provider's refusal, if it tells them."""
    for pattern in _PATTERNS:
        if found := pattern.search(words):
            return Overflow(int(found["prompt"]), int(found["limit"]))
    return None


def is_hopeless(body: bytes, overflow: Overflow) -> bool:
    """Whether what stays of a call of Chat Completions is too long without the conversation."""
    try:
        call = json.loads(body)
        messages = call["messages"]
        lengths = [_length(message) for message in messages]
        tools = _length(call.get("tools"))
        is_kept = [message["role"] in ("system", "developer") for message in messages]
        last = max(at for at, message in enumerate(messages) if message["role"] == "user")
        is_kept[last] = True
    except _UNREADABLE:
        return False
    kept = tools + sum(length for length, stays in zip(lengths, is_kept, strict=True) if stays)
    kept_tokens = overflow.prompt_tokens * kept / max(1, tools + sum(lengths))
    return kept_tokens > _MARGIN * overflow.limit_tokens


def _length(value: Any) -> int:
    """Characters of the text in a value; those of images are no measure of their tokens."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, dict):
        return sum(len(name) + _length(each) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(_length, value))
    return 1
