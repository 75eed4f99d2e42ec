"""The server's application: the API, the documents, `/mcp` and the dashboard on its services."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypedDict

from chowder_local.api.missing_routes import refuse_missing_route
from chowder_local.api.openapi.page import documentation_routes
from chowder_local.api.routes import routes
from chowder_local.core.wording import program
from chowder_local.dashboard.chat_stream import ChatStreams
from chowder_local.dashboard.pages import Dashboard, page_of
from chowder_local.dashboard.routes import dashboard_routes
from chowder_local.features.front import all_operations, all_pages, fronts, rendering
from chowder_local.http import middleware
from chowder_local.http.listener import with_state
from chowder_local.mcp.requests import McpRequests, mcp_route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from chowder_local.core.metrics import Metrics
    from chowder_local.services import Services


class State(TypedDict):
    """The members of `request.state`."""

    services: Services
    dashboard: Dashboard
    mcp: McpRequests


def application(services: Services) -> ASGIApp:
    """The application of a server whose services are open."""
    settings = services.settings
    hosts = [settings.host, *settings.allowed_hosts]
    return with_state(api(settings.cors_origins, None, services.metrics, hosts), state(services))


def api(
    cors_origins: Sequence[str],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[State]] | None,
    metrics: Metrics,
    hosts: Sequence[str] = (),
) -> Starlette:
    """The routes and middleware; what `lifespan` yields becomes the requests' state."""
    app = middleware.Api(
        routes=_all_routes(),
        middleware=middleware.stack(cors_origins, metrics, hosts, page_of),
        lifespan=lifespan,
    )
    app.router.default = refuse_missing_route
    return app


@cache
def _all_routes() -> tuple[BaseRoute, ...]:
    """Shared by all applications of a process, because routes have no state."""
    return (
        *routes(all_operations()),
        mcp_route(),
        *documentation_routes(all_operations()),
        *dashboard_routes(all_pages()),
    )


def state(services: Services) -> State:
    """What requests find in `request.state`."""
    settings = services.settings
    return {
        "services": services,
        "dashboard": Dashboard(
            assets=rendering().assets,
            rendering=rendering(),
            chat_streams=ChatStreams(),
            base_url=f"{settings.client_url}/v1",
            env_command=f'eval "$({program(settings.data_dir)} env)"',
            paths=list(dict.fromkeys(each.path for each in all_operations())),
            instance_buttons=[
                each.instance_button for each in fronts() if each.instance_button is not None
            ],
            held_call_parts=[
                each.held_call_part for each in fronts() if each.held_call_part is not None
            ],
        ),
        "mcp": McpRequests(
            services.tasks, services.server_diagnosis, settings.max_body_bytes, all_operations()
        ),
    }
