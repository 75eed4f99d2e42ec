"""What faults do to the calls of a route: they fail, wait or break off, as they do in earnest."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from chowder_local.api.access import Access
from chowder_local.api.openapi.parameters import path_of
from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.errors import agents, requests, sandboxes, upstream
from chowder_local.core.errors.requests import FaultAnswered, InputInvalid, InstanceStateWrong
from chowder_local.core.fault_injection import FaultKind
from chowder_local.http import bodies, error_rendering
from chowder_local.http.body_memory import give_back
from chowder_local.http.connections import break_off
from chowder_local.http.services import caller, instance, instance_of, running_instance, services
from chowder_local.http.streams import CLIENT_CLOSED_REQUEST, ClosingStream, while_connected
from chowder_local.instances.lifecycle.creation import InstanceDraft

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pydantic import BaseModel
    from starlette.types import Message, Receive, Scope, Send

    from chowder_local.api.access import Handler
    from chowder_local.api.routes import Operation
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.fault_injection import FaultDraft

ROUTES = {
    FaultKind.CREATE: ("POST", "/v1/instances"),
    FaultKind.START: ("POST", "/v1/instances/{instance_id}/start"),
    FaultKind.STOP: ("POST", "/v1/instances/{instance_id}/stop"),
}
"""The call that a kind befalls, where it is one; messages have two, and `call` says which."""
CONTROLS = ("/local/faults", "/local/faults/{fault_id}", "/local/reset")
"""What no fault befalls: it is how one gets rid of them."""
INSIDE = {"files", "skills", "channels"}
"""Subjects whose calls are answered inside of an agent's sandbox, which has to run for them."""
EVENT_END = b"\n\n"


def may_befall(operation: Operation, method: str | None, path: str | None) -> bool:
    """Whether a fault of that method and path, each of which may be open, could befall a route."""
    return (
        operation.access is not Access.ANYONE
        and operation.path not in CONTROLS
        and method in (None, operation.method)
        and (path is None or fnmatchcase(path_of(operation), path))
    )


def faulty(operation: Operation) -> Handler:
    """The operation's handler for as long as there are faults.

    A call is authenticated, permitted and found valid before a fault befalls it, so that none
    hides what is wrong with the call itself.
    """

    async def befallen(request: Request) -> Response:
        faults, asking = services(request).faults, caller(request).organization_id
        instance_id = request.path_params.get("instance_id")
        befalls = partial(_befalls, operation, instance_id)
        if faults.find(asking, befalls) is None:
            return await operation.handler(request)
        call = await _read(request, operation)
        await _judge(call)
        befalls = partial(befalls, is_stream=bool(getattr(call.asked, "stream", False)))
        known_id = None if instance_id is None else InstanceId(instance_id)
        fault = faults.take(asking, befalls, known_id)
        if fault is None:
            return await operation.handler(call.again)
        return await _applied(fault, call)

    return befallen


@dataclass(frozen=True)
class _Call:
    """A call whose body has been read; its handler can read it `again`."""

    request: Request
    again: Request
    operation: Operation
    asked: BaseModel | None


def _befalls(
    operation: Operation, instance_id: str | None, fault: FaultDraft, *, is_stream: bool = True
) -> bool:
    if fault.instance_id not in (None, instance_id):
        return False
    if fault.kind is FaultKind.CALL:
        return may_befall(operation, fault.method, fault.path)
    if operation.access is Access.INTERACT:
        return fault.kind is FaultKind.MESSAGE or (fault.kind is FaultKind.STREAM and is_stream)
    return ROUTES.get(fault.kind) == (operation.method, operation.path)


async def _read(request: Request, operation: Operation) -> _Call:
    """The call with its body. Raises what its handler would.

    A form or a file is left unread, because it is judged as it comes.
    """
    if operation.query is not None:
        bodies.parse_query(request, operation.query)
    if not isinstance(operation.body, type) or operation.body_type != bodies.JSON:
        return _Call(request, request, operation, None)
    known = services(request)
    share = known.body_memory.share(request.scope)
    body = await bodies.read_body(request, known.max_body_bytes, share)
    # Whoever reads it again takes a share of his own, which is given back in the end.
    give_back(request.scope)
    first, again = (Request(request.scope, _again(body, request.receive)) for _ in range(2))
    return _Call(request, again, operation, await bodies.parse(first, operation.body))


def _again(body: bytes, receive: Receive) -> Receive:
    has_come = False

    async def receive_again() -> Message:
        nonlocal has_come
        if has_come:
            return await receive()
        has_come = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _judge(call: _Call) -> None:
    """Raises what is wrong with the call beyond its form, as its handler would."""
    request, operation, asked = call.request, call.operation, call.asked
    if operation.access is Access.INTERACT and asked is not None:
        said = asked.model_dump(exclude_unset=True)
        await services(request).conversations.check(instance(request), said)
    elif asked is not None and _is(operation, FaultKind.CREATE):
        await services(request).creation.check(InstanceDraft(**asked.model_dump()))
    elif operation.access is Access.ORGANIZATION:
        await _judge_what_is_named(request, operation)
    elif operation.tag in INSIDE:
        running_instance(request)


async def _judge_what_is_named(request: Request, operation: Operation) -> None:
    asking, named = caller(request).organization_id, request.path_params
    if "key_id" in named:
        await services(request).keys.get(asking, named["key_id"])
    if "instance_id" in named:
        found = await instance_of(request)
        for kind, wanted in _WANTED.items():
            if _is(operation, kind) and found.status is not wanted:
                raise InstanceStateWrong(found.status, wanted)


_WANTED = {FaultKind.START: InstanceStatus.STOPPED, FaultKind.STOP: InstanceStatus.RUNNING}


def _is(operation: Operation, kind: FaultKind) -> bool:
    return ROUTES[kind] == (operation.method, operation.path)


async def _applied(fault: FaultDraft, call: _Call) -> Response:
    if not await _waited(fault.delay_s, call):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    if fault.status is not None:
        return _worded(await _failure(fault, fault.status, call), fault, call.request.scope)
    response = await call.operation.handler(call.again)
    if fault.after_events is not None and isinstance(response, ClosingStream):
        return TruncatedStream(response, fault.after_events)
    return response


async def _waited(delay_s: float, call: _Call) -> bool:
    """Whether the client is still there after that time, if it matters. Raises ServerStopping."""

    async def slept() -> bool:
        await asyncio.sleep(delay_s)
        return True

    if not delay_s:
        return True
    if call.operation.access is not Access.INTERACT:
        # Such a call goes on to its end, whether somebody waits for it or not.
        return await slept()
    # All of its body has come: what can still come is that the client leaves.
    return bool(await while_connected(call.request, slept, services(call.request).shutdown))


async def _failure(fault: FaultDraft, status: int, call: _Call) -> ChowderError:
    """What the server itself raises for that status there, if it has such a failure."""
    operation = call.operation
    is_message = operation.access is Access.INTERACT
    if status == HTTPStatus.PAYMENT_REQUIRED and _is(operation, FaultKind.CREATE):
        return await _limit_reached(call.request)
    if status == HTTPStatus.CONFLICT:
        return _state_wrong(operation)
    if is_message and status in _OF_PROVIDERS:
        model = str(getattr(call.asked, "model", ""))
        provider = services(call.request).conversations.provider_of(model)
        return upstream.ProviderFailed(provider, status, fault.detail or _OF_PROVIDERS[status])
    if status == HTTPStatus.BAD_GATEWAY:
        if operation.access.permission is None:
            return sandboxes.EngineUnavailable(_NO_ENGINE)
        return agents.GatewayUnavailable("the sandbox does not answer")
    return _plain(status, operation)


_OF_PROVIDERS = {
    402: "Your credit balance is too low.",
    429: "Rate limit reached.",
    503: "The service is overloaded. Try again later.",
    504: "The request timed out.",
    529: "Overloaded.",
}
"""What of a message's failures is always a model provider's: we have none of that status."""
_NO_ENGINE = (
    "The container engine does not answer (could not reach the sandbox). Is it running? "
    "Agents boot again by themselves once it is."
)


async def _limit_reached(request: Request) -> ChowderError:
    organizations = services(request).organizations
    known = await organizations.details(caller(request).organization_id)
    # As if there were no more places than are taken, where the tier has no limit.
    limit = known.instance_limit or max(known.instance_count, 1)
    return requests.InstanceLimitReached(max(known.instance_count, limit), limit)


def _state_wrong(operation: Operation) -> ChowderError:
    if _is(operation, FaultKind.START):
        return InstanceStateWrong(InstanceStatus.RUNNING, InstanceStatus.STOPPED)
    return InstanceStateWrong(InstanceStatus.STOPPED, InstanceStatus.RUNNING)


def _plain(status: int, operation: Operation) -> ChowderError:
    permission = operation.access.permission
    own: dict[int, ChowderError] = {
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
    if status in own:
        return own[status]
    try:
        words = HTTPStatus(status).phrase
    except ValueError:
        words = f"HTTP {status}"
    return FaultAnswered(status, words)


def _worded(failure: ChowderError, fault: FaultDraft, scope: Scope) -> Response:
    """The failure as it is always rendered, but with the words that were asked for, if any were."""
    # A provider's failure was made of them.
    words = None if isinstance(failure, upstream.ProviderFailed) else fault.detail
    rendered = error_rendering.rendered(failure, scope, words)
    if fault.retry_after_s is not None:
        rendered.headers["Retry-After"] = str(fault.retry_after_s)
    return rendered


class TruncatedStream(Response):
    """Sends so many events of a stream, and then breaks the connection off."""

    def __init__(self, stream: ClosingStream, event_count: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = event_count
        self._is_cut = False
        stream.body_iterator = self._first_events(stream.body_iterator)  # type: ignore[arg-type]  # ours yields bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_all_but_the_end(message: Message) -> None:
            if not (self._is_cut and not message.get("more_body", True)):
                await send(message)

        await self._stream(scope, receive, send_all_but_the_end)
        if self._is_cut:
            break_off(receive)

    async def _first_events(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async with aclosing(chunks):  # type: ignore[type-var]  # generators, which can be closed
            # Also where none is sent, the agent has begun its answer.
            async for chunk in chunks:
                *events, rest = chunk.split(EVENT_END)
                taken = events[: self._left]
                self._left -= len(taken)
                self._is_cut = not self._left
                whole = b"".join(event + EVENT_END for event in taken)
                yield whole if self._is_cut else whole + rest
                if self._is_cut:
                    return
