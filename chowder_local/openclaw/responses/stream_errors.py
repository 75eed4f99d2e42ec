"""What a stream that fails says of it: OpenAI's codes, and the types of its API (pure)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.core.errors.upstream import ContextLengthExceeded, ProviderFailed

if TYPE_CHECKING:
    from chowder_local.core.errors import ChowderError

# Of the codes that OpenAI's ResponseError has, these three are about something that can happen
# here; its API has a type for each of them.
SERVER_ERROR, RATE_LIMIT, INVALID_PROMPT = "server_error", "rate_limit_exceeded", "invalid_prompt"
_TYPES = {
    SERVER_ERROR: "server_error",
    RATE_LIMIT: "rate_limit_error",
    INVALID_PROMPT: "invalid_request_error",
}


def error_of(failure: ChowderError) -> dict[str, Any]:
    """Members of an `error` event."""
    code = _code(failure)
    return {"type": _TYPES[code], "code": code, "message": str(failure), "param": None}


def _code(failure: ChowderError) -> str:
    if isinstance(failure, AnswerUnfit | ContextLengthExceeded | MessageRefused):
        return INVALID_PROMPT
    if not isinstance(failure, ProviderFailed) or failure.status is None:
        return SERVER_ERROR
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RATE_LIMIT
    is_refusal = failure.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return INVALID_PROMPT if is_refusal else SERVER_ERROR
