"""ASGI middleware that injects faults: calls fail, wait or break off as in a real failure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from chowder_local.api.access import Access
from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.errors import agents, requests, sandboxes, upstream
from chowder_local.core.errors.requests import FaultAnswered, InputInvalid, InstanceStateWrong
from chowder_local.core.fault_injection import Call, FaultKind
from chowder_local.http import bodies, error_rendering
from chowder_local.http.listener import break_off
from chowder_local.http.responses import CLIENT_CLOSED_REQUEST, while_connected
from chowder_local.http.services import caller, instance, instance_of, require_running, services

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from chowder_local.api.operations import Operation
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.fault_injection import FaultDraft
    from chowder_local.services import Services

KINDS = {
    ("POST", "/v1/instances"): FaultKind.CREATE,
    ("POST", "/v1/instances/{instance_id}/start"): FaultKind.START,
    ("POST", "/v1/instances/{instance_id}/stop"): FaultKind.STOP,
}
"""Calls with a kind of their own; messages have two."""
REQUIRED_STATUS = {
    FaultKind.START: InstanceStatus.STOPPED,
    FaultKind.STOP: InstanceStatus.RUNNING,
}
CONTROLS = ("/local/faults", "/local/faults/{fault_id}", "/local/reset")
"""No fault is injected into these calls, because they remove faults."""
IN_SANDBOX = {"files", "skills", "channels"}
"""Tags of the calls that need a running sandbox."""
EVENT_END = b"\n\n"


def kinds_of(operation: Operation) -> set[FaultKind]:
    if operation.access is Access.ANYONE:
        return set()
    kinds = set() if operation.path in CONTROLS else {FaultKind.CALL}
    if operation.is_message:
        kinds |= {FaultKind.MESSAGE, FaultKind.STREAM}
    if kind := KINDS.get((operation.method, operation.path)):
        kinds.add(kind)
    return kinds


@dataclass(eq=False, repr=False)
class FaultInjection:
    """ASGI middleware of one operation, inside of its authorization.

    A call is authorized and validated before a fault is injected, so that no fault hides an error
    in the call itself.
    """

    app: ASGIApp
    operation: Operation

    def __post_init__(self) -> None:
        self._kinds = kinds_of(self.operation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        registered: Services = scope["state"]["services"]
        if not registered.faults.are_set:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        fault, body = await self._take(request)
        if fault is None:
            await self.app(scope, receive, send)
        else:
            await self._inject(fault, request, body, send)

    async def _take(self, request: Request) -> tuple[FaultDraft | None, BaseModel | None]:
        """The fault for the request, if any, and its body. Raises the request's own error."""
        faults, organization_id = services(request).faults, caller(request).organization_id
        instance_id = request.path_params.get("instance_id")
        call = Call(
            self._kinds,
            self.operation.method,
            self.operation.template,
            None if instance_id is None else InstanceId(instance_id),
        )
        if faults.find(organization_id, call) is None:
            return None, None
        body = await _read(request, self.operation)
        await self._check(request, body)
        if not getattr(body, "stream", False):
            call = replace(call, kinds=self._kinds - {FaultKind.STREAM})
        return faults.take(organization_id, call), body

    async def _check(self, request: Request, body: BaseModel | None) -> None:
        """Raises the error that the handler would raise for the valid body."""
        operation = self.operation
        if operation.is_message and body is not None:
            message = body.model_dump(exclude_unset=True)
            await services(request).conversations.check(instance(request), message)
        elif FaultKind.CREATE in self._kinds and body is not None:
            await services(request).creation.check(**body.model_dump())
        elif operation.access is Access.ORGANIZATION:
            await self._check_path(request)
        elif operation.tag in IN_SANDBOX:
            require_running(instance(request))

    async def _check_path(self, request: Request) -> None:
        if "key_id" in request.path_params:
            organization_id = caller(request).organization_id
            await services(request).keys.get(organization_id, request.path_params["key_id"])
        if "instance_id" in request.path_params:
            target = await instance_of(request)
            for kind, required in REQUIRED_STATUS.items():
                if kind in self._kinds and target.status is not required:
                    raise InstanceStateWrong(target.status, required, target.error_message)

    async def _inject(
        self, fault: FaultDraft, request: Request, body: BaseModel | None, send: Send
    ) -> None:
        scope, receive = request.scope, request.receive
        if not await self._delay(request, fault.delay_s):
            await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)
        elif fault.status is not None:
            error = await self._error(fault, fault.status, request, body)
            await _rendered(error, fault, scope)(scope, receive, send)
        elif fault.after_events is not None:
            truncated = TruncatedStream(receive, send, fault.after_events)
            await self.app(scope, receive, truncated.send)
        else:
            await self.app(scope, receive, send)

    async def _delay(self, request: Request, delay_s: float) -> bool:
        """Waits; False if the client of a message has left.

        Raises ServerStopping if the server stops while a message waits.
        """

        async def sleep() -> bool:
            await asyncio.sleep(delay_s)
            return True

        if not delay_s:
            return True
        if not self.operation.is_message:
            # Only messages stop when their client leaves.
            return await sleep()
        # The body has been read, so that only a disconnect can follow.
        return bool(await while_connected(request, sleep, services(request).shutdown))

    async def _error(
        self, fault: FaultDraft, status: int, request: Request, body: BaseModel | None
    ) -> ChowderError:
        """The error that the server itself raises for this status and call, if there is one."""
        if status == HTTPStatus.PAYMENT_REQUIRED and FaultKind.CREATE in self._kinds:
            return await _limit_reached(request)
        if status == HTTPStatus.CONFLICT:
            required = InstanceStatus.RUNNING
            if FaultKind.START in self._kinds:
                required = InstanceStatus.STOPPED
            return _state_wrong(required)
        if self.operation.is_message and status in PROVIDER_ERRORS:
            model = str(getattr(body, "model", ""))
            provider = services(request).conversations.provider_of(model)
            return upstream.ProviderFailed(
                provider, status, fault.detail or PROVIDER_ERRORS[status]
            )
        if status == HTTPStatus.BAD_GATEWAY:
            if self.operation.access.permission is None:
                return sandboxes.EngineUnavailable(_NO_ENGINE)
            return agents.GatewayUnavailable("the sandbox does not answer")
        return _plain(status, self.operation)


async def _read(request: Request, operation: Operation) -> BaseModel | None:
    """The request's body, which the handler can read again. Raises what the handler would.

    A form or a file is not read, because the handler validates it as it arrives.
    """
    if operation.query is not None:
        bodies.parse_query(request, operation.query)
    if not isinstance(operation.body, type) or operation.body_type != bodies.JSON:
        return None
    await bodies.keep_body(request)
    return await bodies.parse(request, operation.body)


PROVIDER_ERRORS = {
    402: "Your credit balance is too low.",
    429: "Rate limit reached.",
    503: "The service is overloaded. Try again later.",
    504: "The request timed out.",
    529: "Overloaded.",
}
"""Statuses that only a model provider's failure gives a message, with its usual message."""
_NO_ENGINE = (
    "The container engine does not answer (could not reach the sandbox). Is it running? "
    "Agents that have run before boot again by themselves once it is."
)


async def _limit_reached(request: Request) -> ChowderError:
    organizations = services(request).organizations
    details = await organizations.details(caller(request).organization_id)
    # A tier without a limit gets the present count as its limit.
    limit = details.instance_limit or max(details.instance_count, 1)
    return requests.InstanceLimitReached(max(details.instance_count, limit), limit)


def _state_wrong(required: InstanceStatus) -> ChowderError:
    is_stopped = required is InstanceStatus.RUNNING
    status = InstanceStatus.STOPPED if is_stopped else InstanceStatus.RUNNING
    return InstanceStateWrong(status, required)


def _plain(status: int, operation: Operation) -> ChowderError:
    permission = operation.access.permission
    errors: dict[int, ChowderError] = {
        401: requests.KeyInvalid(),
        403: requests.PermissionMissing(permission)
        if permission
        else requests.OrganizationKeyRequired(),
        404: requests.KeyNotFound()
        if "{key_id}" in operation.path
        else requests.InstanceNotFound(),
        422: InputInvalid([{"loc": ["body"], "msg": "Value error", "type": "value_error"}]),
        500: FaultAnswered(500, "Internal server error."),
    }
    if status in errors:
        return errors[status]
    try:
        message = HTTPStatus(status).phrase
    except ValueError:
        message = f"HTTP {status}"
    return FaultAnswered(status, message)


def _rendered(error: ChowderError, fault: FaultDraft, scope: Scope) -> Response:
    """Renders the error, with the fault's message and `Retry-After` if it has them."""
    # A provider's error has the message already.
    message = None if isinstance(error, upstream.ProviderFailed) else fault.detail
    response = error_rendering.render(error, scope, message)
    if fault.retry_after_s is not None:
        response.headers["Retry-After"] = str(fault.retry_after_s)
    return response


class TruncatedStream:
    """Sends the first events of a stream, and then closes the connection."""

    def __init__(self, receive: Receive, send: Send, event_count: int) -> None:
        self._receive = receive
        self._send = send
        self._left = event_count
        self._is_cut = False

    async def send(self, message: Message) -> None:
        """Sends a message, or the rest up to the cut. A response without a stream is sent whole."""
        if self._is_cut:
            return
        is_cut = False
        if message.get("more_body"):
            body, is_cut = self._first_events(message["body"])
            message = {**message, "body": body}
        self._is_cut = is_cut
        await self._send(message)
        if is_cut:
            # The handler runs until it notices the disconnect.
            break_off(self._receive)

    def _first_events(self, chunk: bytes) -> tuple[bytes, bool]:
        """The part of a chunk to send, and whether the stream ends after it."""
        *events, rest = chunk.split(EVENT_END)
        sent = events[: self._left]
        self._left -= len(sent)
        whole = b"".join(event + EVENT_END for event in sent)
        return (whole + rest, False) if self._left else (whole, True)
