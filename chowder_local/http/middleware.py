"""The middleware of every request: log, CORS, origin guard and error rendering."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from chowder_local.core import logs
from chowder_local.core.errors.requests import SHOWN_CHARACTERS, HostUnknown, PageRefused
from chowder_local.core.logs import REQUEST_ID_HEADER
from chowder_local.core.secrets import mask_keys
from chowder_local.http import error_rendering
from chowder_local.http.error_rendering import error_response
from chowder_local.http.services import fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.core.domain import Caller
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.metrics import Metrics

    ErrorPage = Callable[[Exception, Scope], Response | None]
    """Renders an error as HTML; None if the client is a program."""

log = logging.getLogger(__name__)

LOOPBACK_ORIGIN = r"https?://(localhost|[a-z0-9-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_LOOPBACK_PAGE = re.compile(LOOPBACK_ORIGIN)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:/@\s]+))(?::\d*)?", re.IGNORECASE)


class OriginGuard:
    """Protects against DNS rebinding and cross-site requests.

    After DNS rebinding, a foreign page has this server's origin to its browser, and only the `Host`
    header differs. A page of another site may send simple requests without a CORS preflight; its
    browser names the site in `Origin` or `Sec-Fetch-Site`.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = _LOOPBACK_NAMES | {host_name(_bracketed(host)) for host in hosts}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._error(scope)) is not None:
            await error_response(error, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _error(self, scope: Scope) -> ChowderError | None:
        fields = fields_of(scope)
        host = fields.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host_name(host), scope):
            return HostUnknown(host)
        if scope["method"] in _SAFE_METHODS:
            return None
        origin, site = (
            None if value is None else value.decode("latin-1")
            for value in (fields.get(b"origin"), fields.get(b"sec-fetch-site"))
        )
        return None if self._may_change(host, origin, site) else PageRefused(origin or site or "")

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._hosts or name.endswith(".localhost"):
            return True
        # The request may name the address that it came to, because DNS cannot rebind an address.
        server = scope.get("server")
        return bool(name) and server is not None and name == server[0].removeprefix("::ffff:")

    def _may_change(self, host: str, origin: str | None, site: str | None) -> bool:
        if origin is None or origin == "null":
            # A browser that hides the origin still sends Sec-Fetch-Site; a program sends neither.
            return site in {"same-origin", "none"} or (origin is None and site is None)
        if not self._origins.isdisjoint({origin, "*"}) or _LOOPBACK_PAGE.fullmatch(origin):
            return True
        return origin.partition("://")[2] == host


def _bracketed(host: str) -> str:
    """The host as a `Host` header has it; a bare IPv6 address has no port."""
    return f"[{host}]" if host.count(":") > 1 and "[" not in host else host


@lru_cache(maxsize=64)
def host_name(authority: str) -> str:
    """The name in a `Host` header, in lower case and without port; empty if it is invalid."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return ""
    return (match[1] or match[2]).lower().removesuffix(".")


_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


@dataclass(eq=False, repr=False)
class RequestLog:
    """Gives each request an id, which its response carries; counts it; logs its end."""

    app: ASGIApp
    metrics: Metrics

    def __post_init__(self) -> None:
        self._templates: dict[Any, str] = {}
        # Ids are no secrets, so they need no system call each.
        self._ids = random.Random(secrets.randbits(256))  # noqa: S311

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        fields = fields_of(scope)
        sent_id = fields.get(_REQUEST_ID, b"").decode("latin-1")
        request_id = (
            sent_id
            if sent_id and logs.may_be_logged(sent_id)
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
                    self.metrics.open_streams.inc()
            await send(message)

        # uvicorn runs each request as a task, and a task's context ends with it.
        traceparent = fields.get(b"traceparent")
        logs.set_request(request_id, None if traceparent is None else traceparent.decode("latin-1"))
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            took_s = time.perf_counter() - began_s
            self.metrics.request(scope["method"], self._template(scope), status, took_s)
            if is_stream:
                self.metrics.open_streams.dec()
            _log_end(scope, status, took_s, request_id)

    def _template(self, scope: Scope) -> str | None:
        """The path of the request's route, as the route table has it."""
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
        # Without the query, which may contain secrets; quoted, because a decoded path may contain
        # a line feed.
        path = quote(mask_keys(scope["path"]))
        audited = _audited(scope) if is_audited else ""
        line = (scope["method"], path, status, took_s * 1000, request_id, audited)
        log.log(level, "%s %s %d %.1f ms %s%s", *line)


def _level(path: str) -> int:
    """DEBUG for routes that programs poll, which would fill the log."""
    is_polled = path.startswith(("/local/", "/assets/")) or path.endswith("/status")
    is_polled = is_polled or path in {"/health", "/live"}
    return logging.DEBUG if is_polled else logging.INFO


def note(request: Request, **ids: str) -> None:
    """Adds ids to the log line of an audited call; never a secret."""
    request.scope["state"].setdefault("audited", {}).update(ids)


def _audited(scope: Scope) -> str:
    """Which key made the call, and the call's notes."""
    state = scope.get("state", {})
    caller: Caller | None = state.get("caller")
    owner = "nobody"
    if caller is not None:
        kind = "organization key" if caller.is_organization_key else "key"
        owner = f"{kind} {caller.key_id} of organization {caller.organization_id}"
    notes = [
        f", {name} {quote(mask_keys(value[:SHOWN_CHARACTERS]))}"
        for name, value in state.get("audited", {}).items()
    ]
    return f" by {owner}{''.join(notes)}"


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
                error_rendering.CODE_HEADER,
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
