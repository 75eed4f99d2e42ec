"""Sign-in and sign-out, and the checks before a page's handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chowder_local.accounts.keys import SESSION_LIFE_S
from chowder_local.core.errors.requests import (
    ActionRefused,
    KeyInvalid,
    KeyMissing,
    OrganizationKeyRequired,
    SignInLinkUsed,
    SignInNeeded,
)
from chowder_local.dashboard.pages import dashboard, form, fragment, redirect
from chowder_local.http.error_rendering import status_of
from chowder_local.http.services import fields_of, services

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.errors import ChowderError
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


HOME = "/"


async def show(request: Request) -> Response:
    """The form; redirects a user who is already signed in."""
    onward = _safe_path(request.query_params.get("next"))
    try:
        await services(request).dashboard_sessions.caller(session(request))
    except SignInNeeded:
        return _form(request, onward)
    return redirect(request, onward)


async def sign_in(request: Request) -> Response:
    """Begins a session with the form's key, which is not stored."""
    sent = await form(request)
    onward = _safe_path(sent.get("next"))
    try:
        new_session = await services(request).dashboard_sessions.begin(sent.get("key"))
    except (KeyMissing, KeyInvalid, OrganizationKeyRequired) as refusal:
        return _form(request, onward, refusal)
    return _signed_in(request, new_session, onward)


async def follow_link(request: Request) -> Response:
    """Begins a session with the code of a link from `chowder-local dashboard`."""
    sent = await form(request)
    try:
        new_session = await services(request).dashboard_sessions.redeem(sent.get("code", ""))
    except SignInLinkUsed as refusal:
        return _form(request, HOME, refusal)
    return _signed_in(request, new_session, HOME)


async def sign_out(request: Request) -> Response:
    """Ends the session for every copy of its cookie."""
    await services(request).dashboard_sessions.end(session(request))
    response = redirect(request, "/sign-in")
    response.delete_cookie(**_cookie(request))
    return response


def _form(request: Request, onward: str, refusal: ChowderError | None = None) -> Response:
    status = 200 if refusal is None else status_of(refusal)
    env_command = dashboard(request).env_command
    return fragment(
        request, "sign_in.html", status, onward=onward, refusal=refusal, env_command=env_command
    )


def _signed_in(request: Request, new_session: str, onward: str) -> Response:
    response = redirect(request, onward)
    response.set_cookie(**_cookie(request), value=new_session, max_age=SESSION_LIFE_S)
    return response


def _cookie(request: Request) -> dict[str, Any]:
    return {
        "key": services(request).dashboard_sessions.cookie,
        "path": "/",
        "httponly": True,
        "samesite": "strict",
        "secure": _is_https(request),
    }


def _is_https(request: Request) -> bool:
    """Whether the browser uses HTTPS, to this server or to a proxy in front of it.

    The headers of any client are trusted: a forged one only marks its sender's cookie as secure.
    """
    fields = fields_of(request.scope)
    scheme = fields.get(b"x-forwarded-proto", b"").partition(b",")[0].strip().lower()
    is_forwarded = scheme == b"https" or fields.get(b"origin", b"").startswith(b"https://")
    return is_forwarded or request.url.scheme == "https"


def _safe_path(address: str | None) -> str:
    """The address if it is a path here, else HOME: browsers read `//x` and `/\\x` as a host."""
    if address is None or not address.startswith("/") or address[1:2] in {"/", "\\"}:
        return HOME
    parts = urlsplit(address)
    is_plain = address.isprintable() and address.isascii()
    return address if is_plain and not parts.netloc and not parts.scheme else HOME
