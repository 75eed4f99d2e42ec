"""Checks before a page's handler: a session, and for actions the dashboard's own origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import ActionRefused
from chowder_local.http.headers import fields_of
from chowder_local.http.services import services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.http.endpoints import Handler

SAFE_METHODS = frozenset({"GET", "HEAD"})


def guarded(handler: Handler, *, is_open: bool) -> Handler:
    """The handler behind its checks; unless `is_open`, they set the request's `caller`.

    Actions must come from a page of this very origin: to a browser, a page on another port of
    this machine is the same site, so it sends the session's cookie along. The checked handler
    raises ActionRefused for actions of other origins, and SignInNeeded without a session.
    """

    async def checked(request: Request) -> Response:
        if request.method not in SAFE_METHODS:
            # Another origin's page can send this header only after a preflight, which is refused.
            is_preflighted = is_open or "HX-Request" in request.headers
            if not (is_preflighted and _is_same_origin(request)):
                raise ActionRefused
        if not is_open:
            dashboard_sessions = services(request).dashboard_sessions
            request.scope["state"]["caller"] = await dashboard_sessions.caller(session(request))
        return await handler(request)

    return checked


def session(request: Request) -> str | None:
    """The session in the request's cookie."""
    return request.cookies.get(services(request).dashboard_sessions.cookie)


def _is_same_origin(request: Request) -> bool:
    """Whether the browser's headers name a page of this origin as the sender."""
    fields = fields_of(request.scope)
    origin, site, host = (
        fields.get(name, b"").decode("latin-1") for name in (b"origin", b"sec-fetch-site", b"host")
    )
    if origin in {"", "null"}:
        return site == "same-origin"
    return origin.partition("://")[2] == host
