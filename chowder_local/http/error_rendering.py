"""The status and the text of each error, and the responses of the API that have them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from chowder_local.core.errors import (
    ChowderError,
    agents,
    process,
    requests,
    sandboxes,
    upstream,
    versions,
)
from chowder_local.http.message_errors import body_of, is_message_route
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST
from chowder_local.http.services import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

log = logging.getLogger(__name__)

STATUSES: Mapping[type[ChowderError], int] = {
    requests.KeyMissing: 401,
    requests.KeyInvalid: 401,
    requests.ActionRefused: 403,
    requests.SignInNeeded: 401,
    requests.SignInLinkUsed: 403,
    requests.HostUnknown: 403,
    requests.PageRefused: 403,
    requests.OrganizationKeyRequired: 403,
    requests.PermissionMissing: 403,
    requests.InstanceLimitReached: 402,
    requests.RouteMissing: 404,
    requests.InstanceNotFound: 404,
    agents.TraceNotFound: 404,
    requests.ExchangeNotFound: 404,
    requests.TurnNotFound: 404,
    requests.SessionNotFound: 404,
    requests.OrganizationNotFound: 404,
    requests.SnapshotNotFound: 404,
    requests.ArchiveRefused: 400,
    requests.KeyNotFound: 404,
    requests.FaultNotFound: 404,
    requests.FaultsFull: 409,
    # `status_of` answers the fault's own.
    requests.FaultAnswered: 500,
    requests.LinkInvalid: 400,
    sandboxes.SandboxMissing: 404,
    sandboxes.OriginMissing: 404,
    requests.InstanceStateWrong: 409,
    sandboxes.SandboxPaused: 409,
    # Not a failure: the caller's other running agents take the memory.
    sandboxes.HostFull: 409,
    agents.ConversationsAtRest: 409,
    agents.ChannelNotFound: 404,
    agents.PairingNotFound: 404,
    agents.ChannelRefused: 400,
    agents.ChannelUnreachable: 502,
    requests.InputInvalid: 422,
    versions.VersionUnavailable: 400,
    versions.UpgradeRefused: 409,
    versions.InstanceInUse: 409,
    requests.BodyTooLarge: 413,
    requests.BodyEncodingUnknown: 415,
    requests.ModelUnknown: 400,
    requests.ModelKeyMissing: 400,
    requests.ModelMissing: 400,
    requests.ProviderReserved: 400,
    agents.ConfigRefused: 400,
    agents.ConfigNotApplied: 400,
    agents.SkillNotFound: 404,
    agents.SkillInstalled: 409,
    agents.SkillRefused: 400,
    agents.ClawHubUnavailable: 502,
    agents.MessageRefused: 400,
    agents.MessageTooLarge: 413,
    # Not a status that clients retry: the agent would do its work a second time.
    agents.AnswerUnfit: 400,
    agents.FileMissing: 404,
    agents.FileRefused: 400,
    agents.FileTooLarge: 413,
    requests.ClientStalled: 400,
    agents.SandboxFull: 507,
    agents.GatewayUnavailable: 502,
    agents.GatewaySuspended: 502,
    agents.ServerStopping: 502,
    agents.AgentDiskFull: 507,
    agents.AgentRenewed: 502,
    agents.RpcRefused: 502,
    sandboxes.BootFailed: 502,
    sandboxes.DiskFull: 507,
    sandboxes.EngineUnavailable: 502,
    sandboxes.EngineDiskFull: 507,
    sandboxes.EngineSilent: 502,
    sandboxes.NodeUnreachable: 502,
    # The engine works, but cannot provide the requested egress.
    sandboxes.EgressUnavailable: 400,
    sandboxes.ImageMissing: 502,
    upstream.ContextLengthExceeded: 400,
    upstream.RelayFailed: 500,
    upstream.UpstreamFailed: 502,
    upstream.StreamBroken: 502,
    process.DataDirUnusable: 500,
    process.DataDirFull: 507,
    process.ToolsUnavailable: 500,
    requests.IdempotencyKeyInvalid: 400,
    requests.IdempotencyKeyReused: 409,
    requests.IdempotencyKeyInUse: 409,
    ChowderError: 500,
}
"""Looked up along the class's bases: an error without a row is a 500."""

NO_WEBSOCKET = (
    "Messages do not go over a WebSocket. POST to the same address; with `stream: true` the "
    "answer is a stream of events."
)
SHOULD_RETRY_HEADER = "x-should-retry"
_PROXIED = (
    agents.GatewayUnavailable,
    upstream.ProviderFailed,
    agents.RpcRefused,
    agents.ClawHubUnavailable,
    agents.ChannelUnreachable,
)


def render(raised: Exception, scope: Scope, message: str | None = None) -> Response:
    """Renders an error that a handler, or the routing, raised.

    `message` replaces the message of a ChowderError.
    """
    if isinstance(raised, ChowderError):
        if status_of(raised) >= 500 and not isinstance(raised, upstream.ProviderFailed):
            # A provider's message may quote the key that it refuses, so it is not logged.
            log.warning("%s: %s", raised.code, raised)
        return error_response(raised, scope, message)
    if isinstance(raised, HTTPException):
        is_websocket = is_message_route(scope) and b"upgrade" in fields_of(scope)
        detail = NO_WEBSOCKET if is_websocket and raised.status_code == 405 else raised.detail
        body = body_of(scope, raised, raised.status_code, detail)
        return JSONResponse(body, raised.status_code, raised.headers)
    if isinstance(raised, ClientDisconnect):
        # It left while it sent its body; only the log and the metrics see this.
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    log.error("unexpected error", exc_info=raised)
    # The error's message may contain anything, so only the log has it.
    return JSONResponse(body_of(scope, raised, 500, "Internal server error."), 500)


def stopping_response(scope: Scope) -> JSONResponse:
    """The response to a request that is still in progress when the server stops."""
    return error_response(agents.ServerStopping(), scope)


def error_response(error: ChowderError, scope: Scope, message: str | None = None) -> JSONResponse:
    """Renders a ChowderError; `message` replaces its own."""
    status = status_of(error)
    body = body_of(scope, error, status, detail_of(error, message))
    return JSONResponse(body, status, _headers(error, status))


def status_of(error: ChowderError) -> int:
    if isinstance(error, requests.FaultAnswered):
        return error.status
    if isinstance(error, upstream.ProviderFailed):
        # The provider's own, so that clients retry as they would there.
        is_error = error.status is not None and 400 <= error.status < 600
        return error.status if is_error and error.status is not None else 502
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def detail_of(error: ChowderError, message: str | None = None) -> Any:
    """The response's `detail` for an error; `message` replaces the error's own."""
    if isinstance(error, requests.InputInvalid):
        problems = error.problems
        return problems if message is None else [{**problems[0], "msg": message}]
    text = str(error) if message is None else message
    return {"error": text} if isinstance(error, _PROXIED) else text


def _headers(error: ChowderError, status: int) -> dict[str, str]:
    headers = {}
    if status == 401 and not isinstance(error, upstream.ProviderFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, upstream.ProviderFailed) and error.retry_after:
        headers["Retry-After"] = error.retry_after
    if isinstance(error, requests.IdempotencyKeyInUse):
        headers["Retry-After"] = "1"
    if STATUSES.get(type(error)) == 409:
        # OpenAI's SDKs retry each 409 without this header.
        headers[SHOULD_RETRY_HEADER] = "true" if error.may_pass else "false"
    return headers
