"""Responses of page handlers: pages, parts of pages, notices and dialogs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, Response

from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.dashboard.services import dashboard
from chowder_local.http.services import caller, instance_of, running, services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from markupsafe import Markup
    from starlette.requests import Request

    from chowder_local.core.domain import Instance

TABS = (
    ("", "Talk"),
    ("/files", "Files"),
    ("/channels", "Channels"),
    ("/skills", "Skills"),
    ("/config", "Configuration"),
    ("/snapshots", "Snapshots"),
    ("/logs", "Logs"),
)
"""An instance's pages: the path below the instance's address, and the title."""
MACROS = "_macros.html"
HTMX_STOP_POLLING = 286


def fragment(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A template without a page around it, which htmx swaps in."""
    html = dashboard(request).rendering.html(template, **context)
    return _html(html, status)


def part(request: Request, template: str, macro: str, *args: Any, **options: Any) -> Markup:
    """The HTML that a template's macro renders."""
    return dashboard(request).rendering.macro(template, macro, *args, **options)


def parts(*html: str, status: int = 200) -> HTMLResponse:
    """Parts of a page, which htmx swaps in."""
    return _html("\n".join(html), status)


def _html(html: str, status: int) -> HTMLResponse:
    # What sandboxes and models write may have half of a character.
    return HTMLResponse(html.encode(errors="replace"), status, HEADERS)


def notice(request: Request, text: str, *changed: str) -> HTMLResponse:
    """A message of success, with the parts of the page that the action has changed."""
    return parts(part(request, MACROS, "notice", text), *changed)


def dialog(request: Request, template: str, macro: str, *args: Any) -> HTMLResponse:
    """A dialog whose form posts to this request's address, the macro's first argument."""
    action = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return parts(part(request, template, macro, action, *args))


async def page(
    request: Request, template: str, *, here: str, status: int = 200, **context: Any
) -> HTMLResponse:
    """A whole page; the navigation marks the address `here` as the current one."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return fragment(
        request, template, status, here=here, organization=details.organization, **context
    )


async def instance_page(
    request: Request, template: str, instance: Instance, *, tab: str, **context: Any
) -> HTMLResponse:
    """One of an instance's TABS; the template extends `instance_layout.html`."""
    return await page(request, template, here="/", it=instance, tab=tab, tabs=TABS, **context)


async def agent_part(
    request: Request, retry: str, render: Callable[[Instance], Awaitable[Response]]
) -> Response:
    """The part that `render` makes of a running instance, or the error with a button to retry.

    `retry` is the address of this part below the instance's.
    """
    instance = await instance_of(request)
    try:
        return await render(await running(request, instance))
    except ChowderError as problem:
        html = part(request, MACROS, "unavailable", instance, str(problem), retry)
        response = parts(html, status=HTMX_STOP_POLLING)
        response.headers["HX-Reswap"] = "innerHTML"
        return response


def redirect(request: Request, address: str) -> Response:
    """Sends the browser to another page of the dashboard, for requests by htmx and by forms."""
    if "HX-Request" in request.headers:
        return Response(headers={**HEADERS, "HX-Redirect": address})
    return Response(status_code=303, headers={**HEADERS, "Location": address})
