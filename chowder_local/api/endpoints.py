"""The endpoint of a path: its operations, and what a request passes before their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chowder_local.api.access import Access, Authorization
from chowder_local.api.fault_injection import FaultInjection
from chowder_local.http.bodies import JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel
    from starlette.types import ASGIApp, Receive, Scope, Send

    from chowder_local.api.operations import Operation


class Endpoint:
    """A path's operations; what they raise is rendered where everything is, and nowhere else."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = {each.method: each for each in operations}
        self.audited = {each.method for each in self.operations.values() if each.is_audited}
        self._apps = {method: _app(each) for method, each in self.operations.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette lets HEAD in wherever GET is.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        app = self._apps.get(method)
        if app is None:
            raise HTTPException(405, headers={"Allow": ", ".join(self._apps)})
        await app(scope, receive, send)


def _app(operation: Operation) -> ASGIApp:
    handler = operation.handler

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await handler(Request(scope, receive, send))
        response = answer if isinstance(answer, Response) else _rendered(answer, operation.status)
        await response(scope, receive, send)

    if operation.access is Access.ANYONE:
        return respond
    return Authorization(FaultInjection(respond, operation), operation.access)


def _rendered(answer: BaseModel | Sequence[BaseModel] | None, status: int) -> Response:
    if answer is None:
        return Response(status_code=status)
    return Response(to_json(answer), status, media_type=JSON)
