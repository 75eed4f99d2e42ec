"""The one place where a failure becomes an HTTP answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from chowder_local import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import ExceptionHandler

log = logging.getLogger(__name__)

STATUSES: Mapping[type[errors.ChowderError], int] = {
    errors.KeyMissing: 401,
    errors.KeyInvalid: 401,
    errors.OrganizationKeyRequired: 403,
    errors.InstanceLimitReached: 402,
    errors.InstanceNotFound: 404,
    errors.OrganizationNotFound: 404,
    errors.SandboxMissing: 404,
    errors.InstanceStateWrong: 409,
    errors.InputInvalid: 422,
    errors.BodyTooLarge: 413,
    errors.ModelUnknown: 400,
    errors.ModelKeyMissing: 400,
    errors.ConfigRefused: 400,
    errors.MessageRefused: 400,
    errors.MessageTooLarge: 413,
    errors.GatewayUnavailable: 502,
    errors.RpcRefused: 502,
    errors.BootFailed: 502,
    errors.EngineUnavailable: 502,
    errors.UpstreamFailed: 502,
    errors.StreamBroken: 502,
    errors.DataDirUnusable: 500,
    errors.ChowderError: 500,
}
"""Looked up along the class's bases, so that a new error is a 500 until it has a row."""

_PROXIED = (errors.GatewayUnavailable, errors.ProviderFailed, errors.RpcRefused)


def handlers() -> Mapping[Any, ExceptionHandler]:
    """Exception handlers for the application."""
    return {
        errors.ChowderError: _refused,
        HTTPException: _http,
    }


def stopping() -> JSONResponse:
    """The answer to a request that is not over when the server ends."""
    failure = errors.GatewayUnavailable("the server is stopping")
    return JSONResponse({"detail": detail_of(failure)}, status_of(failure))


def defect() -> JSONResponse:
    """The answer to a request that met a defect of ours."""
    # Its words may hold anything, so the client gets none of them; the log has the traceback.
    return JSONResponse({"detail": "Internal server error."}, 500)


def status_of(failure: errors.ChowderError) -> int:
    """The HTTP status of a failure."""
    if isinstance(failure, errors.ProviderFailed):
        # The provider's own, so that a client's retry logic does what it would do there.
        is_error = failure.status is not None and 400 <= failure.status < 600
        return failure.status if is_error and failure.status is not None else 502
    return next(STATUSES[kind] for kind in type(failure).__mro__ if kind in STATUSES)


def detail_of(failure: errors.ChowderError) -> Any:
    """What the answer's `detail` says of a failure."""
    if isinstance(failure, errors.InputInvalid):
        return failure.problems
    if isinstance(failure, _PROXIED):
        return {"error": str(failure)}
    return str(failure)


async def _refused(_: Request, raised: Exception) -> JSONResponse:
    failure = cast("errors.ChowderError", raised)
    status = status_of(failure)
    headers = {}
    if status == 401 and not isinstance(failure, errors.ProviderFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(failure, errors.ProviderFailed) and failure.retry_after:
        headers["Retry-After"] = failure.retry_after
    if status >= 500 and not isinstance(failure, errors.ProviderFailed):
        # A provider's words may quote the key that it refuses; ours never do.
        log.warning("%s: %s", failure.code, failure)
    return JSONResponse({"detail": detail_of(failure)}, status, headers)


async def _http(_: Request, raised: Exception) -> JSONResponse:
    failure = cast("HTTPException", raised)
    return JSONResponse({"detail": failure.detail}, failure.status_code, failure.headers)
