"""Gives each request an id, a line in the log, and its place in the metrics."""

from __future__ import annotations

import logging
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.routing import Route

from chowder_local.core import request_context
from chowder_local.core.errors.requests import SHOWN_CHARACTERS
from chowder_local.core.request_context import REQUEST_ID_HEADER
from chowder_local.core.secrets import mask_keys
from chowder_local.http.headers import fields_of

if TYPE_CHECKING:
    from typing import Any

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.core.domain import Caller
    from chowder_local.core.metrics import Metrics

log = logging.getLogger(__name__)

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
            if sent_id and request_context.may_be_logged(sent_id)
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
        request_context.set_request(
            request_id, None if traceparent is None else traceparent.decode("latin-1")
        )
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
