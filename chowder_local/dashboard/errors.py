"""What people see of a failure: a page, or a line in the page that they are on."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import (
    ChannelRefused,
    ChannelUnreachable,
    ClawHubUnavailable,
    PairingNotFound,
)
from chowder_local.core.errors.requests import InputInvalid, SignInNeeded
from chowder_local.dashboard.services import fragment, moved
from chowder_local.http.error_rendering import detail_of, status_of
from chowder_local.http.headers import fields_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

OF_PROGRAMS = ("/v1", "/local", "/docs", "/openapi.json", "/assets")
"""Where nobody but programs gets lost; there a failure is JSON, whoever asks."""
TITLES = {
    400: "That cannot be done",
    401: "Sign in again",
    402: "No more instances on this tier",
    403: "Not from here",
    404: "There is no such page",
    405: "There is no such page",
    409: "Not now",
    413: "Too much",
    422: "Something is missing",
    502: "The agent or its engine does not answer",
    503: "Too much at once",
}

OF_OTHERS = {
    ChannelRefused: "Not connected",
    ChannelUnreachable: "Not connected",
    PairingNotFound: "Nobody is let in",
    ClawHubUnavailable: "ClawHub is not there",
}
"""What went wrong beyond the agent, whatever its status says."""


def page_of(raised: Exception, scope: Scope) -> Response | None:
    """The failure for a person; None if it is a program that asked."""
    if isinstance(raised, ClientDisconnect) or not _is_of_a_person(scope):
        return None
    request = Request(scope)
    if isinstance(raised, SignInNeeded):
        # Where to, once that is done; of an action nobody knows whether it is still wanted.
        onward = scope["path"] if scope["method"] == "GET" and not _is_htmx(scope) else "/"
        return moved(request, f"/sign-in?next={quote(onward)}")
    status, words = _told(raised)
    title = OF_OTHERS.get(type(raised)) or TITLES.get(status, "Something went wrong")
    template = "notice.html" if _is_htmx(scope) else "failure.html"
    return fragment(request, template, status, title=title, words=words, number=status)


def _is_of_a_person(scope: Scope) -> bool:
    path: str = scope["path"]
    if any(path == each or path.startswith(f"{each}/") for each in OF_PROGRAMS):
        return False
    return _is_htmx(scope) or b"text/html" in fields_of(scope).get(b"accept", b"")


def _is_htmx(scope: Scope) -> bool:
    return b"hx-request" in fields_of(scope)


def _told(raised: Exception) -> tuple[int, str]:
    if isinstance(raised, HTTPException):
        return raised.status_code, "The address may be misspelt, or of another version."
    if isinstance(raised, InputInvalid):
        problems = ((each["loc"][-1:] or ("",), each["msg"]) for each in raised.problems)
        return 422, "; ".join(f"{name}: {words}" for (name,), words in problems)
    if isinstance(raised, ChowderError):
        detail = detail_of(raised)
        return status_of(raised), str(detail["error"] if isinstance(detail, dict) else detail)
    return 500, "That is a defect of the server; its log says more."
