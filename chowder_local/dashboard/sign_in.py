"""Handlers: signing in with a key, once, and out again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chowder_local.accounts.dashboard_sessions import SESSION_LIFE_S
from chowder_local.core.errors.requests import (
    KeyInvalid,
    KeyMissing,
    OrganizationKeyRequired,
    SignInLinkUsed,
    SignInNeeded,
)
from chowder_local.dashboard.forms import form
from chowder_local.dashboard.guard import session
from chowder_local.dashboard.services import dashboard, fragment, moved
from chowder_local.http.error_rendering import status_of
from chowder_local.http.headers import fields_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.core.errors import ChowderError

HOME = "/"


async def show(request: Request) -> Response:
    """The form; whoever is signed in already is sent on."""
    onward = _onward(request.query_params.get("next"))
    try:
        await dashboard(request).dashboard_sessions.caller(session(request))
    except SignInNeeded:
        return _asked(request, onward)
    return moved(request, onward)


async def sign_in(request: Request) -> Response:
    """Begins a session with the key of the form, which is nowhere kept."""
    sent = await form(request)
    onward = _onward(sent.get("next"))
    try:
        begun = await dashboard(request).dashboard_sessions.begin(sent.get("key"))
    except (KeyMissing, KeyInvalid, OrganizationKeyRequired) as refusal:
        return _asked(request, onward, refusal)
    return _signed_in(request, begun, onward)


async def follow_link(request: Request) -> Response:
    """Begins a session with the code of a link that `chowder-local dashboard` has printed."""
    sent = await form(request)
    try:
        begun = await dashboard(request).dashboard_sessions.redeem(sent.get("code", ""))
    except SignInLinkUsed as refusal:
        return _asked(request, HOME, refusal)
    return _signed_in(request, begun, HOME)


async def sign_out(request: Request) -> Response:
    """Ends the session for every copy of its cookie."""
    dashboard_sessions = dashboard(request).dashboard_sessions
    await dashboard_sessions.end(session(request))
    answer = moved(request, "/sign-in")
    answer.delete_cookie(
        dashboard_sessions.cookie,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )
    return answer


def _asked(request: Request, onward: str, refusal: ChowderError | None = None) -> Response:
    status = 200 if refusal is None else status_of(refusal)
    env_command = dashboard(request).env_command
    return fragment(
        request, "sign_in.html", status, onward=onward, refusal=refusal, env_command=env_command
    )


def _signed_in(request: Request, begun: str, onward: str) -> Response:
    answer = moved(request, onward)
    answer.set_cookie(
        dashboard(request).dashboard_sessions.cookie,
        begun,
        max_age=SESSION_LIFE_S,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )
    return answer


def _is_https(request: Request) -> bool:
    """Whether the browser asks by HTTPS, of a proxy that speaks it in our place too.

    A header that lies gives its own sender a cookie that the browser keeps for HTTPS, and nobody
    else: so it may be believed whoever sends it.
    """
    fields = fields_of(request.scope)
    scheme = fields.get(b"x-forwarded-proto", b"").partition(b",")[0].strip().lower()
    is_forwarded = scheme == b"https" or fields.get(b"origin", b"").startswith(b"https://")
    return is_forwarded or request.url.scheme == "https"


def _onward(address: str | None) -> str:
    """Where to go on, which must be a page of ours: a browser takes `//x` and `/\\x` for a host."""
    if address is None or not address.startswith("/") or address[1:2] in {"/", "\\"}:
        return HOME
    parts = urlsplit(address)
    is_plain = address.isprintable() and address.isascii()
    return address if is_plain and not parts.netloc and not parts.scheme else HOME
