"""Who may open a page: whoever is signed in, and only from this server's own pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import ActionRefused
from chowder_local.dashboard.services import dashboard
from chowder_local.http.headers import fields_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.api.access import Handler

READING = frozenset({"GET", "HEAD"})


def guarded(handler: Handler, *, is_open: bool) -> Handler:
    """The handler behind its checks; `caller` then finds who is signed in, unless it is open.

    What changes something must come from a page of this very origin: to a browser a page on
    another port of this machine is of the same site, so it sends our cookie along.
    """

    async def checked(request: Request) -> Response:
        if request.method not in READING:
            # No page of another origin can send that without being asked first, and refused.
            has_asked_first = is_open or "HX-Request" in request.headers
            if not (has_asked_first and _is_from_us(request)):
                raise ActionRefused
        if not is_open:
            dashboard_sessions = dashboard(request).dashboard_sessions
            request.scope["state"]["caller"] = await dashboard_sessions.caller(session(request))
        return await handler(request)

    return checked


def session(request: Request) -> str | None:
    """The session that the request's cookie names."""
    return request.cookies.get(dashboard(request).dashboard_sessions.cookie)


def _is_from_us(request: Request) -> bool:
    """Whether one of our own pages has sent it, by what the browser says of that."""
    fields = fields_of(request.scope)
    origin, site, host = (
        fields.get(name, b"").decode("latin-1") for name in (b"origin", b"sec-fetch-site", b"host")
    )
    if origin in {"", "null"}:
        return site == "same-origin"
    return origin.partition("://")[2] == host
