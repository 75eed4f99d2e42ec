"""What providers say of their failures, in whatever shape (pure)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_OVERFLOW = re.compile(
    r"prompt is too long|context.length|context.window|context.size|maximum context|"
    r"input token count|exceeds the maximum number of tokens|request_too_large",
    re.IGNORECASE,
)
_NUMBERS = (
    # llama.cpp
    r"request \((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tok",
    # OpenAI, vLLM, llama-cpp-python; newer ones of vLLM
    r"maximum context length is (?P<limit>\d+) tok.*?(?P<prompt>\d+) (?:tokens )?in the messages",
    r"maximum context length is (?P<limit>\d+) tok.*?(?:has|resulted in) (?P<prompt>\d+) (?:inp|t)",
    # LM Studio
    r"keep the first (?P<prompt>\d+) tokens .*?context length of only (?P<limit>\d+) tokens",
)
_OVERFLOW_NUMBERS = tuple(re.compile(each, re.IGNORECASE | re.DOTALL) for each in _NUMBERS)
_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SHOWN_CHARACTERS = 300


class Overflow(NamedTuple):
    """Tokens of a prompt, and how many the model takes."""

    prompt_tokens: int
    limit_tokens: int

    def __str__(self) -> str:
        """The message that OpenClaw knows and takes the numbers from."""
        return f"prompt is too long: {self.prompt_tokens} tokens > {self.limit_tokens} maximum"


def is_overflow(message: str) -> bool:
    """Whether a provider says that the prompt is longer than the model takes."""
    return _OVERFLOW.search(message) is not None


def read_overflow(message: str) -> Overflow | None:
    """The numbers in a provider's refusal of a prompt, if it states them."""
    for pattern in _OVERFLOW_NUMBERS:
        if found := pattern.search(message):
            return Overflow(int(found["prompt"]), int(found["limit"]))
    return None


def error_message(body: bytes) -> str:
    """A provider's message for a person; the text's beginning where there is none."""
    text = body.decode("utf-8", "replace").strip()
    return _message(_load(text)) or text[:_SHOWN_CHARACTERS]


def error_code(body: bytes) -> str | None:
    """A provider's own code: OpenAI's `code`, Anthropic's `type`, Gemini's `status`."""
    answer = _load(body.decode("utf-8", "replace").strip())
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None
    # OpenAI has both, and `type` is none.
    is_anthropic = answer.get("type") == "error"
    codes = (error.get(name) for name in (("type",) if is_anthropic else ("code", "status")))
    return next((each for each in codes if isinstance(each, str) and _CODE.fullmatch(each)), None)


def retry_wait_s(headers: Mapping[str, str]) -> float | None:
    """How many seconds a refused caller has to wait; a date counts as nothing."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            # A negative wait is no wait.
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    return None


def load_json(text: str) -> Any:
    """The JSON; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _load(text: str) -> Any:
    answer = load_json(text)
    # Gemini's stream of JSON begins with a bracket, errors included.
    return answer[0] if isinstance(answer, list) and answer else answer


def _message(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return None
    error = answer.get("error", answer)
    message = error.get("message") if isinstance(error, dict) else error
    return message.strip() if isinstance(message, str) else None
