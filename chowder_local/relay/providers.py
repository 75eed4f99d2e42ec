"""How each model provider takes its key and tells its errors."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY_HEADERS = {
    ModelProvider.ANTHROPIC: "x-api-key",
    ModelProvider.OPENAI: "authorization",
    ModelProvider.GEMINI: "x-goog-api-key",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_GEMINI_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
}
_OVERFLOW = re.compile(
    r"prompt is too long|context.length|context.window|context.size|maximum context|"
    r"input token count|exceeds the maximum number of tokens|request_too_large",
    re.IGNORECASE,
)
_CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SHOWN_CHARACTERS = 300
_BEARER = "bearer "


def token_of(provider: ModelProvider, headers: Mapping[str, str], query: str) -> str | None:
    """What a request shows as its key, in the place where this provider's clients put it.

    The names in `headers` are in lower case.
    """
    authorization = headers.get("authorization", "")
    bearer = (
        authorization[len(_BEARER) :].strip() if authorization.lower().startswith(_BEARER) else None
    )
    if provider is ModelProvider.OPENAI:
        return bearer
    token = headers.get(_KEY_HEADERS[provider])
    if token is None and provider is ModelProvider.GEMINI:
        token = dict(parse_qsl(query)).get("key")
    return token or bearer


def credential(provider: ModelProvider, key: str) -> tuple[str, str]:
    """The header that carries a key to a provider."""
    if provider is ModelProvider.OPENAI:
        return bearer(key)
    return _KEY_HEADERS[provider], key


def bearer(key: str) -> tuple[str, str]:
    """The same for all that do as OpenAI does."""
    return "authorization", f"Bearer {key}"


def without_key(query: str) -> str:
    """A query string without the `key` that Gemini's clients may put there."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if all(name != "key" for name, _ in pairs):
        return query
    return urlencode([pair for pair in pairs if pair[0] != "key"])


def error_words(body: bytes) -> str:
    """What a provider's error says to a person; the text's beginning where there is no message."""
    text = body.decode("utf-8", "replace").strip()
    return _message(_error(text)) or text[:_SHOWN_CHARACTERS]


def error_code(body: bytes) -> str | None:
    """A provider's own code: OpenAI's `code`, Anthropic's `type`, Gemini's `status`."""
    answer = _error(body.decode("utf-8", "replace").strip())
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None
    # OpenAI has both, and `type` is none.
    is_anthropic = answer.get("type") == "error"
    codes = (error.get(name) for name in (("type",) if is_anthropic else ("code", "status")))
    return next((each for each in codes if isinstance(each, str) and _CODE.fullmatch(each)), None)


def _error(text: str) -> Any:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    # Gemini's stream of JSON begins with a bracket, errors included.
    return answer[0] if isinstance(answer, list) and answer else answer


def _message(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return None
    error = answer.get("error", answer)
    words = error.get("message") if isinstance(error, dict) else error
    return words.strip() if isinstance(words, str) else None


def is_overflow(words: str) -> bool:
    """Whether a provider says that the prompt is longer than the model takes."""
    return _OVERFLOW.search(words) is not None


def error_body(provider: ModelProvider, status: int, words: str) -> bytes:
    """An error as this provider's clients expect it."""
    body: dict[str, Any]
    if provider is ModelProvider.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error")
        body = {"type": "error", "error": {"type": kind, "message": words}}
    elif provider is ModelProvider.OPENAI:
        code = "invalid_api_key" if status == 401 else None
        error = {"message": words, "type": "invalid_request_error", "param": None, "code": code}
        body = {"error": error}
    else:
        kind = _GEMINI_STATUSES.get(status, "INVALID_ARGUMENT")
        body = {"error": {"code": status, "message": words, "status": kind}}
    return json.dumps(body).encode()


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """How many seconds a refused caller is told to wait; a date counts as not told."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            # A negative wait is no wait.
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    return None
