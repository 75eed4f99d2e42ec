"""What every request passes through: an id, one log line, and CORS for pages on this machine."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from chowder_local.web import failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LOOPBACK_ORIGIN = r"https?://(localhost|[a-z0-9-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
REQUEST_ID_HEADER = "X-Request-Id"
QUEUE_POSITION_HEADER = "X-Queue-Position"
_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()


def stack(cors_origins: Sequence[str]) -> list[Middleware]:
    """Outermost first."""
    return [
        Middleware(RequestLog),
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
            ],
            max_age=600,
        ),
        Middleware(Defects),
    ]


class PagesCORS(CORSMiddleware):
    """CORS for pages, which say their origin; whoever has none is spared the work."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(name == b"origin" for name, _ in scope.get("headers", ())):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Defects:
    """Answers in place of code that raised what nobody foresaw, or that the server's end cut off.

    Innermost, because Starlette's own handler is outside of CORS: pages could not read it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
                await failures.stopping()(scope, receive, send)
        except Exception:
            log.exception("a defect of ours")
            if has_begun:
                raise
            await failures.defect()(scope, receive, send)


class RequestLog:
    """Gives each request an id, which the answer carries, and logs its end in one line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # They tell requests apart and keep no secret; the kernel need not be asked for each.
        self._ids = random.Random(secrets.randbits(256))  # noqa: S311

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"{self._ids.getrandbits(128):032x}"
        began_s = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (_REQUEST_ID, request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            level = _level(scope["path"])
            if log.isEnabledFor(level):
                # Without the query, which may carry what no log should, and quoted, because a
                # decoded path may hold the end of this line and the beginning of another.
                path = quote(scope["path"])
                took_ms = (time.perf_counter() - began_s) * 1000
                log.log(
                    level, "%s %s %d %.1f ms %s",
                    scope["method"], path, status, took_ms, request_id,
                )  # fmt: skip


def _level(path: str) -> int:
    """What programs ask all the time would drown what people look for."""
    is_polled = path.startswith("/local/") or path.endswith("/status")
    return logging.DEBUG if is_polled else logging.INFO
