"""The `error` member of the error responses that OpenAI's SDKs and clients of `/mcp` get (pure).

Both show `error.message` and nothing else of a body.
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

# Includes the paths of Chat Completions, whose clients also show `error` alone.
_ROUTE = re.compile(
    r"/v1/(?:instances/[^/]+/(?:models|(?:session/.+/)?responses)|(?:.*/)?chat/completions)",
    re.DOTALL,
)
JSON_RPC_PATH = "/mcp"
INVALID_REQUEST, INTERNAL_ERROR = -32600, -32603
"""JSON-RPC's codes."""
_MEMBERS = PASSED_ON | TRANSLATED | DROPPED | REFUSED.keys()
# "tools[0].name: …": how messages about a member begin, OpenClaw's included.
_MEMBER_PREFIX = re.compile(r"((\w+)(?:\.\w+|\[\d+\])*): ")
JSON_INVALID = "json_invalid"
"""The type of a problem whose `loc` ends with a position in the body's text, as in FastAPI."""
RATE_LIMIT_CODE = "rate_limit_exceeded"


def is_message_route(scope: Scope) -> bool:
    """Whether the path is one that clients of OpenAI's API call."""
    return _ROUTE.fullmatch(scope["path"]) is not None


def error_of(raised: Exception, status: int, detail: Any) -> dict[str, str | None]:
    """The `error` of a response with this status and `detail`, in OpenAI's format."""
    return {
        "message": _message(detail),
        "type": type_of(status),
        "code": _code(raised, status),
        "param": _param(raised),
    }


def type_of(status: int) -> str:
    """OpenAI's error type for a status."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


def _message(detail: Any) -> str:
    if isinstance(detail, dict):
        return str(detail["error"])
    if isinstance(detail, list):
        return "; ".join(map(_problem, detail))
    return str(detail)


def _problem(problem: Mapping[str, Any]) -> str:
    # The message of invalid JSON has its position already.
    place = "" if problem["type"] == JSON_INVALID else ".".join(map(str, problem["loc"])) + ": "
    return f"{place}{problem['msg']}"


def _code(raised: Exception, status: int) -> str:
    if isinstance(raised, ProviderFailed):
        is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
        return raised.provider_code or (RATE_LIMIT_CODE if is_limit else raised.code)
    return code_of(raised, status)


def code_of(raised: Exception, status: int) -> str:
    """This server's name for an error, or HTTP's for its status."""
    if isinstance(raised, ChowderError):
        return raised.code
    return HTTPStatus(status).name.lower()


def _param(raised: Exception) -> str | None:
    """The member of the body that is at fault, if it is exactly one."""
    if isinstance(raised, requests.InputInvalid):
        problems = raised.problems
        members = {
            None if each["type"] == JSON_INVALID else _dotted(each["loc"]) for each in problems
        }
        return members.pop() if len(members) == 1 else None
    if isinstance(raised, MessageRefused) and (prefix := _MEMBER_PREFIX.match(str(raised))):
        return prefix[1] if prefix[2] in _MEMBERS else None
    return raised.param if isinstance(raised, ChowderError) else None


def _dotted(loc: Sequence[str | int]) -> str | None:
    """A location as OpenAI writes it: `input[0].content`."""
    path = ""
    for each in loc[1:]:
        path += f"[{each}]" if isinstance(each, int) else f".{each}"
    return path.removeprefix(".") or None


def body_of(scope: Scope, raised: Exception, status: int, detail: Any) -> Mapping[str, Any]:
    """The body of an error response: `detail`, and `error` on message routes; or JSON-RPC's."""
    if scope["path"] == JSON_RPC_PATH:
        code = INVALID_REQUEST if status < HTTPStatus.INTERNAL_SERVER_ERROR else INTERNAL_ERROR
        # The request's id is not known, because its body was not read.
        return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": _message(detail)}}
    if is_message_route(scope) or isinstance(raised, requests.RouteMissing):
        return {"detail": detail, "error": error_of(raised, status, detail)}
    return {"detail": detail}
