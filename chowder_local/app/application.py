"""The server's application: the API, the documents and the dashboard on its services."""

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
from chowder_local.features.feature import chosen_features
from chowder_local.features.front import whole_of
from chowder_local.http import middleware
from chowder_local.http.listener import with_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from chowder_local.core.metrics import Metrics
    from chowder_local.features.front import Whole
    from chowder_local.services import Services


class State(TypedDict):
    """The members of `request.state`."""

    services: Services
    dashboard: Dashboard


def application(services: Services) -> ASGIApp:
    """The application of a server whose services are open."""
    settings = services.settings
    hosts = [settings.host, *settings.allowed_hosts]
    app = api(settings.cors_origins, None, services.metrics, hosts, settings.features_off)
    return with_state(app, state(services))


def api(
    cors_origins: Sequence[str],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[State]] | None,
    metrics: Metrics,
    hosts: Sequence[str] = (),
    features_off: tuple[str, ...] = (),
) -> Starlette:
    """The routes and middleware; what `lifespan` yields becomes the requests' state."""
    app = middleware.Api(
        routes=_routes(whole_of(chosen_features(features_off))),
        middleware=middleware.stack(cors_origins, metrics, hosts, page_of),
        lifespan=lifespan,
    )
    app.router.default = refuse_missing_route
    return app


@cache
def _routes(whole: Whole) -> tuple[BaseRoute, ...]:
    """Shared by all applications of a process, because routes have no state."""
    return (
        *routes(whole.operations),
        *whole.routes,
        *documentation_routes(whole.operations),
        *dashboard_routes(whole.pages),
    )


def state(services: Services) -> State:
    """What requests find in `request.state`."""
    settings = services.settings
    whole = whole_of(chosen_features(settings.features_off))
    return {
        "services": services,
        "dashboard": Dashboard(
            assets=whole.rendering.assets,
            rendering=whole.rendering,
            chat_streams=ChatStreams(),
            base_url=f"{settings.client_url}/v1",
            env_command=f'eval "$({program(settings.data_dir)} env)"',
            paths=list(dict.fromkeys(each.path for each in whole.operations)),
            parts=whole.parts,
        ),
    }
