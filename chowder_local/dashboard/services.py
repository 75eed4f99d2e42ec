"""What only the dashboard's handlers need, and who asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import HTMLResponse, Response

from chowder_local.dashboard.rendering import HEADERS
from chowder_local.http.services import Services, caller, services

if TYPE_CHECKING:
    from starlette.requests import Request

    from chowder_local.accounts.dashboard_sessions import DashboardSessions
    from chowder_local.dashboard.assets import Assets
    from chowder_local.dashboard.chat_stream import ChatStreams
    from chowder_local.dashboard.rendering import Rendering
    from chowder_local.diagnostics.server import ServerDiagnosis
    from chowder_local.instances.monitoring.usage_samples import UsageSamples


@dataclass(frozen=True)
class Dashboard:
    """The parts; `env_command` is what prints base URL and key in a shell."""

    dashboard_sessions: DashboardSessions
    usage_samples: UsageSamples
    server_diagnosis: ServerDiagnosis
    assets: Assets
    rendering: Rendering
    chat_streams: ChatStreams
    base_url: str
    env_command: str


@dataclass(frozen=True)
class DashboardServices(Services):
    """The services of a server that has a dashboard."""

    dashboard: Dashboard


def dashboard(request: Request) -> Dashboard:
    """The parts of the server that the request came to."""
    return cast("DashboardServices", services(request)).dashboard


def fragment(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A part of a page, for htmx to put in its place."""
    html = dashboard(request).rendering.html(template, **context)
    return HTMLResponse(html, status, HEADERS)


async def page(
    request: Request, template: str, *, here: str, status: int = 200, **context: Any
) -> HTMLResponse:
    """A whole page of who is signed in; `here` is the address that the navigation marks."""
    details = await services(request).organizations.details(caller(request).organization_id)
    return fragment(
        request, template, status, here=here, organization=details.organization, **context
    )


def moved(request: Request, address: str) -> Response:
    """Sends the browser to another page of ours, whoever in it has asked."""
    if "HX-Request" in request.headers:
        return Response(headers={**HEADERS, "HX-Redirect": address})
    return Response(status_code=303, headers={**HEADERS, "Location": address})
