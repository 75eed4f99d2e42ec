"""The one place where a failure becomes an HTTP answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import (
    ChowderError,
    agents,
    process,
    requests,
    sandboxes,
    upstream,
)
from chowder_local.http.message_errors import body_of
from chowder_local.http.streams import CLIENT_CLOSED_REQUEST

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
    requests.ChatCompletionsMissing: 404,
    requests.InstanceNotFound: 404,
    requests.ExchangeNotFound: 404,
    requests.TurnNotFound: 404,
    requests.SessionNotFound: 404,
    requests.OrganizationNotFound: 404,
    requests.SnapshotNotFound: 404,
    requests.ArchiveRefused: 400,
    requests.KeyNotFound: 404,
    requests.FaultNotFound: 404,
    requests.FaultsFull: 409,
    # Unless it says otherwise, which is what it is for.
    requests.FaultAnswered: 500,
    requests.LinkInvalid: 400,
    sandboxes.SandboxMissing: 404,
    sandboxes.OriginMissing: 404,
    requests.InstanceStateWrong: 409,
    sandboxes.SandboxPaused: 409,
    # Nothing is broken: it is what else the caller has awake that is in the way.
    sandboxes.HostFull: 409,
    agents.ChannelNotFound: 404,
    agents.PairingNotFound: 404,
    agents.ChannelRefused: 400,
    agents.ChannelUnreachable: 502,
    requests.InputInvalid: 422,
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
    # Not of those that clients try again: the agent has worked, and would do so once more.
    agents.AnswerUnfit: 400,
    agents.FileMissing: 404,
    agents.FileRefused: 400,
    agents.FileTooLarge: 413,
    requests.ClientStalled: 400,
    # Not the contract's, but what every client knows to try again after.
    requests.BodiesTooMany: 503,
    agents.SandboxFull: 502,
    agents.GatewayUnavailable: 502,
    agents.GatewaySuspended: 502,
    agents.ServerStopping: 502,
    agents.AgentDiskFull: 502,
    agents.AgentRenewed: 502,
    agents.RpcRefused: 502,
    sandboxes.BootFailed: 502,
    sandboxes.DiskFull: 502,
    sandboxes.EngineUnavailable: 502,
    sandboxes.EngineSilent: 502,
    # The engine does what it can; it is the wish that it cannot fulfil.
    sandboxes.EgressUnavailable: 400,
    sandboxes.ImageMissing: 502,
    upstream.ContextLengthExceeded: 400,
    upstream.RelayFailed: 500,
    upstream.UpstreamFailed: 502,
    upstream.StreamBroken: 502,
    process.DataDirUnusable: 500,
    requests.IdempotencyKeyInvalid: 400,
    requests.IdempotencyKeyReused: 409,
    requests.IdempotencyKeyInUse: 409,
    ChowderError: 500,
}
"""Looked up along the class's bases, so that a new error is a 500 until it has a row."""

SHOULD_RETRY_HEADER = "x-should-retry"
_LASTING = (
    sandboxes.SandboxPaused,
    agents.SkillInstalled,
    requests.FaultsFull,
    requests.IdempotencyKeyReused,
)
_MOMENTARY = (requests.BodiesTooMany, requests.IdempotencyKeyInUse)
_PROXIED = (
    agents.GatewayUnavailable,
    upstream.ProviderFailed,
    agents.RpcRefused,
    agents.ClawHubUnavailable,
    agents.ChannelUnreachable,
)


def rendered(raised: Exception, scope: Scope, words: str | None = None) -> Response:
    """The answer to a request whose handler, or the search for one, raised this.

    `words` take the place of those that a failure of ours has itself.
    """
    if isinstance(raised, ChowderError):
        if status_of(raised) >= 500 and not isinstance(raised, upstream.ProviderFailed):
            # A provider's words may quote the key that it refuses; ours never do.
            log.warning("%s: %s", raised.code, raised)
        return refusal(raised, scope, words)
    if isinstance(raised, HTTPException):
        body = body_of(scope, raised, raised.status_code, raised.detail)
        return JSONResponse(body, raised.status_code, raised.headers)
    if isinstance(raised, ClientDisconnect):
        # It went away while it sent its body; only the log and the metrics see this.
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    log.error("a defect of ours", exc_info=raised)
    # Its words may hold anything, so the client gets none of them; the log has the traceback.
    return JSONResponse(body_of(scope, raised, 500, "Internal server error."), 500)


def stopping(scope: Scope) -> JSONResponse:
    """The answer to a request that is not over when the server ends."""
    return refusal(agents.ServerStopping(), scope)


def refusal(failure: ChowderError, scope: Scope, words: str | None = None) -> JSONResponse:
    """The answer to a request that fails in a way we have words for, at a handler or before."""
    status = status_of(failure)
    body = body_of(scope, failure, status, detail_of(failure, words))
    return JSONResponse(body, status, _headers(failure, status))


def status_of(failure: ChowderError) -> int:
    """The HTTP status of a failure."""
    if isinstance(failure, requests.FaultAnswered):
        return failure.status
    if isinstance(failure, upstream.ProviderFailed):
        # The provider's own, so that a client's retry logic does what it would do there.
        is_error = failure.status is not None and 400 <= failure.status < 600
        return failure.status if is_error and failure.status is not None else 502
    return next(STATUSES[kind] for kind in type(failure).__mro__ if kind in STATUSES)


def detail_of(failure: ChowderError, words: str | None = None) -> Any:
    """What the answer's `detail` says of a failure, or the same with other words."""
    if isinstance(failure, requests.InputInvalid):
        problems = failure.problems
        return problems if words is None else [{**problems[0], "msg": words}]
    said = str(failure) if words is None else words
    return {"error": said} if isinstance(failure, _PROXIED) else said


def _headers(failure: ChowderError, status: int) -> dict[str, str]:
    headers = {}
    if status == 401 and not isinstance(failure, upstream.ProviderFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(failure, upstream.ProviderFailed) and failure.retry_after:
        headers["Retry-After"] = failure.retry_after
    if isinstance(failure, _MOMENTARY):
        headers["Retry-After"] = "1"
    if _is_lasting(failure):
        headers[SHOULD_RETRY_HEADER] = "false"
    return headers


def _is_lasting(failure: ChowderError) -> bool:
    """Whether a conflict stays until somebody does something, so that a retry is in vain.

    SDKs of OpenAI's try a 409 again unless they are told so.
    """
    if isinstance(failure, requests.InstanceStateWrong):
        return failure.status != InstanceStatus.PROVISIONING
    return isinstance(failure, _LASTING)
