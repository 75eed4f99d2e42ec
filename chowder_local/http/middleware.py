"""The middleware of every request: log, CORS, origin guard and error rendering."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from chowder_local.core.request_context import REQUEST_ID_HEADER
from chowder_local.http import error_rendering
from chowder_local.http.headers import fields_of
from chowder_local.http.origin_guard import LOOPBACK_ORIGIN, OriginGuard
from chowder_local.http.request_log import RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.core.metrics import Metrics

    ErrorPage = Callable[[Exception, Scope], Response | None]
    """Renders an error as HTML; None if the client is a program."""

log = logging.getLogger(__name__)

QUEUE_POSITION_HEADER = "X-Queue-Position"
OFFLINE_PROVIDERS_HEADER = "X-Offline-Providers"


def no_page(_: Exception, __: Scope) -> None:
    """The error page of a server without a dashboard: none."""


def stack(
    cors_origins: Sequence[str],
    metrics: Metrics,
    hosts: Sequence[str] = (),
    error_page: ErrorPage = no_page,
) -> list[Middleware]:
    """The middleware, outermost first; `hosts` are this server's names besides the loopback's."""
    return [
        Middleware(RequestLog, metrics),
        Middleware(
            PagesCORS,
            allow_origins=list(cors_origins),
            allow_origin_regex=LOOPBACK_ORIGIN,
            allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"],
            allow_headers=["*"],
            expose_headers=[
                REQUEST_ID_HEADER,
                QUEUE_POSITION_HEADER,
                OFFLINE_PROVIDERS_HEADER,
                "Content-Disposition",
                "Retry-After",
                error_rendering.SHOULD_RETRY_HEADER,
            ],
            max_age=600,
        ),
        # Inside of CORS, so that allowed pages can read the error.
        Middleware(OriginGuard, hosts=hosts, origins=cors_origins),
        Middleware(ErrorMiddleware, error_page),
    ]


class PagesCORS(CORSMiddleware):
    """CORS for requests of web pages; other requests have no `Origin` and skip the work."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"origin" in fields_of(scope):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Api(Starlette):
    """Starlette without its error handlers, which `ErrorMiddleware` replaces."""

    def build_middleware_stack(self) -> ASGIApp:
        """The router inside of the constructor's middleware, and no other."""
        app: ASGIApp = self.router
        for kind, args, kwargs in reversed(self.user_middleware):
            app = kind(app, *args, **kwargs)
        return app


@dataclass(eq=False, repr=False)
class ErrorMiddleware:
    """Renders errors, and answers requests that are cancelled because the server stops.

    Innermost, because pages can read only responses that pass through CORS.
    """

    app: ASGIApp
    error_page: ErrorPage = no_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            # Only a stopping server cancels requests: those that outlast the grace period.
            if not has_begun:
                await error_rendering.stopping_response(scope)(scope, receive, send)
        except Exception as raised:
            if has_begun:
                log.exception("unexpected error")
                raise
            response = error_rendering.render(raised, scope)
            await (self.error_page(raised, scope) or response)(scope, receive, send)
