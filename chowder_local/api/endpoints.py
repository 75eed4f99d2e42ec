"""Endpoints of the route table: authorization, fault injection, handler and response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from chowder_local.api.access import Access, Authorization
from chowder_local.api.fault_injection import FaultInjection
from chowder_local.http.bodies import JSON
from chowder_local.http.endpoints import Endpoint, request_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from chowder_local.api.operations import Operation


class OperationsEndpoint(Endpoint):
    """The endpoint of a path in the route table."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = list(operations)
        super().__init__(
            {each.method: _app(each) for each in self.operations},
            {each.method for each in self.operations if each.is_audited},
        )


def _app(operation: Operation) -> ASGIApp:
    async def handle(request: Request) -> Response:
        answer = await operation.handler(request)
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status_code=operation.status)
        return Response(to_json(answer), operation.status, media_type=JSON)

    app = request_response(handle)
    if operation.access is Access.ANYONE:
        return app
    return Authorization(FaultInjection(app, operation), operation.access)
