"""Reads the providers' error bodies and headers (pure)."""

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
# The first part is atomic, so that no search for the second begins anew at each further first one.
_NUMBERS = (
    # llama.cpp
    r"request \((?P<prompt>\d{1,12}) tokens\) exceeds the available context size "
    r"\((?P<limit>\d{1,12}) tok",
    # OpenAI, vLLM, llama-cpp-python; newer vLLM
    r"\A(?>.*?maximum context length is (?=\d{1,12} tok))(?P<limit>\d+)"
    r".*?(?<!\d)(?P<prompt>\d{1,12}) (?:tokens )?in the messages",
    r"\A(?>.*?maximum context length is (?=\d{1,12} tok))(?P<limit>\d+)"
    r".*?(?:has|resulted in) (?P<prompt>\d{1,12}) (?:inp|t)",
    # LM Studio
    r"\A(?>.*?keep the first (?=\d{1,12} tokens ))(?P<prompt>\d+)"
    r".*?context length of only (?P<limit>\d{1,12}) tokens",
)
_OVERFLOW_NUMBERS = tuple(re.compile(each, re.IGNORECASE | re.DOTALL) for each in _NUMBERS)
_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SHOWN_CHARACTERS = 300
_SEARCHED_CHARACTERS = 4_000


class Overflow(NamedTuple):
    """Tokens of a prompt, and the limit of the model."""

    prompt_tokens: int
    limit_tokens: int

    def __str__(self) -> str:
        """The message from which OpenClaw reads both numbers."""
        return f"prompt is too long: {self.prompt_tokens} tokens > {self.limit_tokens} maximum"


def is_overflow(message: str) -> bool:
    """Whether a provider's message says that the prompt is too long for the model."""
    return _OVERFLOW.search(message) is not None


def read_overflow(message: str) -> Overflow | None:
    """The numbers in a provider's message that a prompt is too long; None if it has none."""
    for pattern in _OVERFLOW_NUMBERS:
        if match := pattern.search(message, 0, _SEARCHED_CHARACTERS):
            return Overflow(int(match["prompt"]), int(match["limit"]))
    return None


def error_message(body: bytes) -> str:
    """The message in an error body; the beginning of the body if it has none."""
    text = body.decode("utf-8", "replace").strip()
    return _message(_load(text)) or text[:_SHOWN_CHARACTERS]


def error_code(body: bytes) -> str | None:
    """A provider's own code: OpenAI's `code`, Anthropic's `type`, Gemini's `status`."""
    answer = _load(body.decode("utf-8", "replace").strip())
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None
    # OpenAI has `type` as well, but its code is `code`.
    is_anthropic = answer.get("type") == "error"
    codes = (error.get(name) for name in (("type",) if is_anthropic else ("code", "status")))
    return next((each for each in codes if isinstance(each, str) and _CODE.fullmatch(each)), None)


def retry_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until a retry is allowed; None if no header says so. Dates are ignored."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    return None


def load_json(text: str) -> Any:
    """The parsed JSON; None if the text is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _load(text: str) -> Any:
    answer = load_json(text)
    # Gemini's JSON streams are arrays, also for an error.
    return answer[0] if isinstance(answer, list) and answer else answer


def _message(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return None
    error = answer.get("error", answer)
    message = error.get("message") if isinstance(error, dict) else error
    return message.strip() if isinstance(message, str) else None
