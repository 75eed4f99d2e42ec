"""The `error` beside `detail` in answers of the two message routes, for OpenAI's SDKs (pure).

They show their users `error.message` and nothing else of a body.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors import ChowderError, requests
from chowder_local.core.errors.agents import MessageRefused
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.openclaw.responses.requests import DROPPED, PASSED_ON, REFUSED, TRANSLATED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Scope

# And where clients call that speak Chat Completions: they, too, show `error` alone.
_ROUTE = re.compile(
    r"/v1/(?:instances/[^/]+/(?:session/.+/)?responses|(?:.*/)?chat/completions)", re.DOTALL
)
_MEMBERS = PASSED_ON | TRANSLATED | DROPPED | REFUSED.keys()
# "tools[0].name: …", as our own words and OpenClaw's begin where they concern a member.
_ABOUT = re.compile(r"((\w+)(?:\.\w+|\[\d+\])*): ")
_ABOUT_THE_MODEL = (
    requests.ModelUnknown,
    requests.ModelMissing,
    requests.ModelKeyMissing,
    requests.ProviderReserved,
)
RATE_LIMIT_CODE = "rate_limit_exceeded"


def is_message_route(scope: Scope) -> bool:
    """Whether a request is a message to an agent, whatever becomes of it."""
    return _ROUTE.fullmatch(scope["path"]) is not None


def error_of(raised: Exception, status: int, detail: Any) -> dict[str, str | None]:
    """The error of an answer whose `detail` is known; the types are those of OpenAI's API."""
    return {
        "message": _message(detail),
        "type": type_of(status),
        "code": _code(raised, status),
        "param": _param(raised),
    }


def type_of(status: int) -> str:
    """OpenAI's type for a status; it has one for everything that is the caller's to mend."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def _message(detail: Any) -> str:
    if isinstance(detail, dict):
        return str(detail["error"])
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in detail)
    return str(detail)


def _code(raised: Exception, status: int) -> str:
    if isinstance(raised, ProviderFailed):
        is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
        return raised.provider_code or (RATE_LIMIT_CODE if is_limit else raised.code)
    if isinstance(raised, ChowderError):
        return raised.code
    return HTTPStatus(status).name.lower()


def _param(raised: Exception) -> str | None:
    """The member of the body that alone is at fault, if there is one."""
    if isinstance(raised, requests.InputInvalid):
        named = {_dotted(each["loc"]) for each in raised.problems}
        return named.pop() if len(named) == 1 else None
    if isinstance(raised, _ABOUT_THE_MODEL):
        return "model"
    if isinstance(raised, MessageRefused) and (about := _ABOUT.match(str(raised))):
        return about[1] if about[2] in _MEMBERS else None
    return None


def _dotted(loc: Sequence[str | int]) -> str | None:
    """A place as OpenAI writes it: `input[0].content`."""
    path = ""
    for each in loc[1:]:
        path += f"[{each}]" if isinstance(each, int) else f".{each}"
    return path.removeprefix(".") or None


def body_of(scope: Scope, raised: Exception, status: int, detail: Any) -> Mapping[str, Any]:
    """An error's whole body: the contract's, and `error` beside it where a message was sent."""
    is_meant = is_message_route(scope) or isinstance(raised, requests.ChatCompletionsMissing)
    if not is_meant:
        return {"detail": detail}
    return {"detail": detail, "error": error_of(raised, status, detail)}
