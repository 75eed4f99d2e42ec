"""What page handlers share: forms, responses with pages or parts of them, and errors as pages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response

from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.requests import InputInvalid, LinkInvalid, SignInNeeded
from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.bodies import read_body, validated
from chowder_local.http.error_rendering import detail_of, status_of
from chowder_local.http.services import caller, fields_of, instance_of, running, services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from markupsafe import Markup
    from starlette.types import Scope

    from chowder_local.core.domain import Instance
    from chowder_local.dashboard.chat_stream import ChatStreams
    from chowder_local.dashboard.rendering import Assets, Rendering
    from chowder_local.relay.call_log import ModelCall

    InstancePart = Callable[[Request, Instance], Markup]
    ReadPart = Callable[[Request, Instance], Awaitable[Markup]]
    UsagePart = Callable[[Request, Instance | None], Markup]
    """Gets the instance if the page is of one only."""
    HeldCallPart = Callable[[Request, ModelCall, Any], Markup]
    """Gets the call and its content, as `model_calls` parses it."""


@dataclass(frozen=True, kw_only=True)
class PageParts:
    """What a feature shows on pages of the kernel."""

    tab: tuple[str, str] | None = None
    """A page of each agent, as in TABS."""
    instance_button: InstancePart | None = None
    """On each page of an agent."""
    above_conversation: InstancePart | None = None
    list_note: InstancePart | None = None
    """Beside an agent's status in the list of all."""
    held_call: HeldCallPart | None = None
    """On the page of a call that is held."""
    below_usage: UsagePart | None = None
    beside_messages: ReadPart | None = None
    """Beside what an agent said without being asked."""


@dataclass(frozen=True)
class Dashboard:
    """What only the dashboard has; `env_command` sets base URL and key in a shell.

    `paths` are those of all calls, `parts` those of features on pages of the kernel.
    """

    assets: Assets
    rendering: Rendering
    chat_streams: ChatStreams
    base_url: str
    env_command: str
    paths: Sequence[str] = ()
    parts: Sequence[PageParts] = ()


def dashboard(request: Request) -> Dashboard:
    return cast("Dashboard", request.scope["state"]["dashboard"])


def instance_parts(
    request: Request, instance: Instance, place: Callable[[PageParts], InstancePart | None]
) -> list[Markup]:
    """What features show of an instance in a place, in order."""
    found = map(place, dashboard(request).parts)
    return [each(request, instance) for each in found if each is not None]


def usage_parts(request: Request, only: Instance | None) -> list[Markup]:
    """What features show below the usage of all agents, or of one, in order."""
    found = [each.below_usage for each in dashboard(request).parts]
    return [each(request, only) for each in found if each is not None]


Model = TypeVar("Model", bound=BaseModel)

FORM_MAX_BYTES = 64 * 1024
FIELDS_MAX = 50


async def form(request: Request, max_bytes: int = FORM_MAX_BYTES) -> dict[str, str]:
    """The fields that are not empty, by name. Raises like `fields`."""
    sent = await fields(request, max_bytes)
    return {name: value.strip() for name, value in sent if value.strip()}


async def parse_form(request: Request, kind: type[Model], max_bytes: int = FORM_MAX_BYTES) -> Model:
    """The form as a model. Raises like `fields`, and InputInvalid if the model refuses it."""
    return validated(kind, await form(request, max_bytes), "body")


async def fields(
    request: Request, max_bytes: int = FORM_MAX_BYTES, max_count: int = FIELDS_MAX
) -> list[tuple[str, str]]:
    """All fields as sent, repeated ones included.

    Raises BodyTooLarge above `max_bytes`, and InputInvalid if the body is no form or has more than
    `max_count` fields.
    """
    body = await read_body(request, max_bytes)
    try:
        # A long text would block the event loop.
        return await asyncio.to_thread(
            parse_qsl, body.decode(), keep_blank_values=True, max_num_fields=max_count
        )
    except ValueError as invalid:
        problem = {"loc": ["body"], "msg": f"Invalid form: {invalid}", "type": "form"}
        raise InputInvalid([problem]) from None


def with_query(path: str, /, **values: str | int | None) -> str:
    """The path with a query of the non-empty values."""
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path


TABS = (
    ("", "Talk"),
    ("/activity", "Activity"),
    ("/unasked", "Messages"),
    ("/files", "Files"),
    ("/channels", "Channels"),
    ("/skills", "Skills"),
    ("/config", "Configuration"),
    ("/snapshots", "Snapshots"),
    ("/logs", "Logs"),
)
"""The kernel's pages of an instance: the path below the instance's address, and the title."""
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
    """One of an instance's tabs; the template extends `instance_layout.html`."""
    times = services(request).agent_times
    # Of a running clock, seconds are out of date before they are read.
    agent_time = times.now(instance) if times.is_moved(instance) else None
    return await page(
        request,
        template,
        here="/",
        it=instance,
        tab=tab,
        tabs=all_tabs(dashboard(request).parts),
        agent_time=agent_time,
        feature_buttons=instance_parts(request, instance, lambda parts: parts.instance_button),
        **context,
    )


def all_tabs(parts: Iterable[PageParts]) -> list[tuple[str, str]]:
    """The pages of an agent, with those of features."""
    return [*TABS, *(each.tab for each in parts if each.tab is not None)]


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
