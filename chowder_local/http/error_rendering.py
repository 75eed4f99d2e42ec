"""Errors as responses of the API: status, body and headers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import ServerStopping
from chowder_local.core.errors.requests import InputInvalid
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.http.message_errors import body_of, code_of, is_message_route
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST
from chowder_local.http.services import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

log = logging.getLogger(__name__)

NO_WEBSOCKET = (
    "Messages do not go over a WebSocket. POST to the same address; with `stream: true` the "
    "answer is a stream of events."
)
SHOULD_RETRY_HEADER = "x-should-retry"
CODE_HEADER = "X-Error-Code"


def render(raised: Exception, scope: Scope, message: str | None = None) -> Response:
    """Renders an error that a handler, or the routing, raised.

    `message` replaces the message of a ChowderError.
    """
    if isinstance(raised, ChowderError):
        if status_of(raised) >= 500 and not isinstance(raised, ProviderFailed):
            # A provider's message may quote the key that it refuses, so it is not logged.
            log.warning("%s: %s", raised.code, raised)
        return error_response(raised, scope, message)
    if isinstance(raised, HTTPException):
        is_websocket = is_message_route(scope) and b"upgrade" in fields_of(scope)
        detail = NO_WEBSOCKET if is_websocket and raised.status_code == 405 else raised.detail
        return _response(scope, raised, raised.status_code, detail, raised.headers or {})
    if isinstance(raised, ClientDisconnect):
        # The client left while it sent its body; only the log and the metrics see this status.
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    log.error("unexpected error", exc_info=raised)
    # The error's message may contain anything, so only the log has it.
    return _response(scope, raised, 500, "Internal server error.", {})


def stopping_response(scope: Scope) -> JSONResponse:
    """The response to a request that is still in progress when the server stops."""
    return error_response(ServerStopping(), scope)


def error_response(error: ChowderError, scope: Scope, message: str | None = None) -> JSONResponse:
    """Renders a ChowderError; `message` replaces its own."""
    status = status_of(error)
    return _response(scope, error, status, detail_of(error, message), _headers(error, status))


def _response(
    scope: Scope, raised: Exception, status: int, detail: Any, headers: Mapping[str, str]
) -> JSONResponse:
    # The contract's bodies have no place for a code, but those of messages do.
    own = {CODE_HEADER: code_of(raised, status)}
    members = raised.members if isinstance(raised, ChowderError) else {}
    body = {**body_of(scope, raised, status, detail), **members}
    return JSONResponse(body, status, {**headers, **own})


def status_of(error: ChowderError) -> int:
    return error.http_status or 500


def detail_of(error: ChowderError, message: str | None = None) -> Any:
    """The response's `detail` for an error; `message` replaces the error's own."""
    if isinstance(error, InputInvalid):
        problems = error.problems
        return problems if message is None else [{**problems[0], "msg": message}]
    text = str(error) if message is None else message
    return {"error": text} if error.is_proxied else text


def _headers(error: ChowderError, status: int) -> dict[str, str]:
    headers = {}
    if error.retry_after:
        headers["Retry-After"] = error.retry_after
    if isinstance(error, ProviderFailed):
        return headers
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 409:
        # OpenAI's SDKs retry each 409 without this header.
        headers[SHOULD_RETRY_HEADER] = "true" if error.may_pass else "false"
    return headers
