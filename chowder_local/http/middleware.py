"""What every request passes through: an id, a log line, CORS for this machine's pages, a gate."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from chowder_local.core import request_context
from chowder_local.core.request_context import REQUEST_ID_HEADER
from chowder_local.core.secrets import without_keys
from chowder_local.http import error_rendering
from chowder_local.http.audit import audit_words
from chowder_local.http.body_memory import give_back
from chowder_local.http.headers import fields_of
from chowder_local.http.origin_guard import LOOPBACK_ORIGIN, OriginGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.core.metrics import Metrics

    ErrorPage = Callable[[Exception, Scope], Response | None]
    """Renders an error as HTML; None if the client is a program."""

log = logging.getLogger(__name__)

QUEUE_POSITION_HEADER = "X-Queue-Position"
_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


def no_page(_: Exception, __: Scope) -> None:
    """For a server without a dashboard."""


def stack(
    cors_origins: Sequence[str],
    metrics: Metrics,
    hosts: Sequence[str] = (),
    error_page: ErrorPage = no_page,
) -> list[Middleware]:
    """Outermost first.

    `hosts` are names of this server besides the loopback's; `error_page` renders an error for
    a person in a browser.
    """
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
                "Content-Disposition",
                "Retry-After",
                error_rendering.SHOULD_RETRY_HEADER,
            ],
            max_age=600,
        ),
        # Inside of CORS, so that a page which may call can read what it did wrong.
        Middleware(OriginGuard, hosts=hosts, origins=cors_origins),
        Middleware(Failures, error_page),
    ]


class PagesCORS(CORSMiddleware):
    """CORS for pages, which say their origin; whoever has none is spared the work."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"origin" in fields_of(scope):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Api(Starlette):
    """Starlette without its own two handlers of what was raised: `Failures` does their work."""

    def build_middleware_stack(self) -> ASGIApp:
        """The router within the middleware that was asked for, and no other."""
        app: ASGIApp = self.router
        for kind, args, kwargs in reversed(self.user_middleware):
            app = kind(app, *args, **kwargs)
        return app


class Failures:
    """Answers in place of code that raised, foreseen or not, or that the server's end cut off.

    Innermost, because pages can read only what has passed CORS. Here a request is over, so here
    is given back what was held of its body.
    """

    def __init__(self, app: ASGIApp, error_page: ErrorPage = no_page) -> None:
        self._app = app
        self._error_page = error_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except asyncio.CancelledError:
            # Only a server that stops does that, to requests which have outlasted its grace.
            if not has_begun:
                await error_rendering.stopping(scope)(scope, receive, send)
        except Exception as raised:
            if has_begun:
                log.exception("a defect of ours")
                raise
            rendered = error_rendering.rendered(raised, scope)
            await (self._error_page(raised, scope) or rendered)(scope, receive, send)
        finally:
            # All that was said of its body has been used by now.
            give_back(scope)


class RequestLog:
    """Gives each request an id, which the answer carries; counts it, and logs its end in a line."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._templates: dict[Any, str] = {}
        # They tell requests apart and keep no secret; the kernel need not be asked for each.
        self._ids = random.Random(secrets.randbits(256))  # noqa: S311

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = fields_of(scope).get(_REQUEST_ID, b"").decode("latin-1")
        request_id = (
            offered
            if offered and request_context.may_be_logged(offered)
            else f"{self._ids.getrandbits(128):032x}"
        )
        began_s = time.perf_counter()
        status = 0
        is_stream = False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.get("headers", ())
                message["headers"] = [*headers, (_REQUEST_ID, request_id.encode())]
                if _STREAM in headers:
                    is_stream = True
                    self._metrics.open_streams.inc()
            await send(message)

        # uvicorn runs each request as a task, and a task's context ends with it.
        request_context.set_request(request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            took_s = time.perf_counter() - began_s
            self._metrics.request(scope["method"], self._template(scope), status, took_s)
            if is_stream:
                self._metrics.open_streams.dec()
            _log_end(scope, status, took_s, request_id)

    def _template(self, scope: Scope) -> str | None:
        """The path of the route that was found, as the table has it."""
        if not self._templates and (app := scope.get("app")) is not None:
            self._templates = {
                each.endpoint: each.path for each in app.routes if isinstance(each, Route)
            }
        return self._templates.get(scope.get("endpoint"))


def _log_end(scope: Scope, status: int, took_s: float, request_id: str) -> None:
    endpoint = scope.get("endpoint")
    is_audited = scope["method"] in getattr(endpoint, "audited", ())
    level = logging.INFO if is_audited else _level(scope["path"])
    if log.isEnabledFor(level):
        # Without the query, which may carry what no log should, and quoted, because a
        # decoded path may hold the end of this line and the beginning of another.
        path = quote(without_keys(scope["path"]))
        log.log(
            level, "%s %s %d %.1f ms %s%s",
            scope["method"], path, status, took_s * 1000, request_id,
            audit_words(scope) if is_audited else "",
        )  # fmt: skip


def _level(path: str) -> int:
    """What programs ask all the time would drown what people look for."""
    is_polled = path.startswith(("/local/", "/assets/")) or path.endswith("/status")
    is_polled = is_polled or path in {"/health", "/live"}
    return logging.DEBUG if is_polled else logging.INFO
