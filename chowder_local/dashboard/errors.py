"""Errors as a page, or as a message on the page whose htmx request failed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InputInvalid, LinkInvalid, SignInNeeded
from chowder_local.dashboard.pages import MACROS, fragment, part, parts, redirect
from chowder_local.http.error_rendering import detail_of, status_of
from chowder_local.http.headers import fields_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

PROGRAM_PATHS = (
    "/v1",
    "/local",
    "/docs",
    "/openapi.json",
    "/openapi-3.2.json",
    "/assets",
)
"""Errors below these paths are JSON, whatever the client accepts."""
TITLES = {
    400: "Invalid request",
    401: "Sign in again",
    402: "No more instances on this tier",
    403: "Refused",
    404: "Page not found",
    405: "Page not found",
    409: "Not possible now",
    413: "Too large",
    422: "Invalid input",
    502: "The agent or its engine does not answer",
    503: "Too many requests",
}


def page_of(raised: Exception, scope: Scope) -> Response | None:
    """The error as HTML; None if the client is a program or has disconnected."""
    # A person follows this link in a browser, whatever the browser accepts.
    is_browser = isinstance(raised, LinkInvalid) or _is_from_browser(scope)
    if isinstance(raised, ClientDisconnect) or not is_browser:
        return None
    request = Request(scope)
    if isinstance(raised, SignInNeeded):
        # After the sign-in the browser goes to the page; an action is not repeated.
        onward = scope["path"] if scope["method"] == "GET" and not _is_htmx(scope) else "/"
        return redirect(request, f"/sign-in?next={quote(onward)}")
    status, text = _describe(raised)
    own_title = raised.title if isinstance(raised, ChowderError) else None
    title = own_title or TITLES.get(status, "Something went wrong")
    if _is_htmx(scope):
        return parts(part(request, MACROS, "error_notice", title, text), status=status)
    return fragment(request, "error.html", status, title=title, text=text, number=status)


def _is_from_browser(scope: Scope) -> bool:
    path: str = scope["path"]
    if any(path == each or path.startswith(f"{each}/") for each in PROGRAM_PATHS):
        return False
    return _is_htmx(scope) or b"text/html" in fields_of(scope).get(b"accept", b"")


def _is_htmx(scope: Scope) -> bool:
    return b"hx-request" in fields_of(scope)


def _describe(raised: Exception) -> tuple[int, str]:
    if isinstance(raised, HTTPException):
        return raised.status_code, "Check the address; it may also belong to another version."
    if isinstance(raised, LinkInvalid):
        return status_of(raised), f"{raised} {raised.remedy.replace('`', '')}"
    if isinstance(raised, InputInvalid):
        problems = ((each["loc"][-1:] or ("",), each["msg"]) for each in raised.problems)
        return 422, "; ".join(f"{name}: {text}" for (name,), text in problems)
    if isinstance(raised, ChowderError):
        detail = detail_of(raised)
        return status_of(raised), str(detail["error"] if isinstance(detail, dict) else detail)
    return 500, "The server has failed unexpectedly; its log has the details."
