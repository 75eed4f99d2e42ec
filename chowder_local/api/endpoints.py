"""Endpoints of the route table: authorization, fault injection, handler and response."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from chowder_local.api.access import Access, Authorization
from chowder_local.api.fault_injection import FaultInjection
from chowder_local.core.strict_model import StrictModel
from chowder_local.http.bodies import JSON, bound_body, parse_query
from chowder_local.http.endpoints import Endpoint, request_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from chowder_local.api.operations import Operation

log = logging.getLogger(__name__)


class OperationsEndpoint(Endpoint):
    """The endpoint of a path in the route table."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = list(operations)
        super().__init__(
            {each.method: _app(each) for each in self.operations},
            {each.method for each in self.operations if each.is_audited},
        )


class FormerEndpoint(Endpoint):
    """The endpoint of an operation at the path of an earlier release; says so once in the log."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._is_said = False
        super().__init__({operation.method: _app(operation)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_said:
            self._is_said = True
            log.warning(
                "%s is %s now, and goes with 0.3", self.operation.former_path, self.operation.path
            )
        await super().__call__(scope, receive, send)


def _app(operation: Operation) -> ASGIApp:
    refuses_query = operation.query is None and operation.is_local

    async def handle(request: Request) -> Response:
        if refuses_query:
            parse_query(request, StrictModel)
        answer = await operation.handler(request)
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status_code=operation.status)
        return Response(to_json(answer), operation.status, media_type=JSON)

    app = request_response(handle)
    if operation.access is not Access.ANYONE:
        app = Authorization(FaultInjection(app, operation), operation.access)
    return app if operation.max_body_bytes is None else _bounded(app, operation.max_body_bytes)


def _bounded(app: ASGIApp, max_body_bytes: int) -> ASGIApp:
    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        bound_body(scope, max_body_bytes)
        await app(scope, receive, send)

    return bounded
