"""The relay's own HTTP server, on the sandboxes' networks."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from chowder_local.core.domain import (
    OTHER_PROVIDERS,
    RELAY_HOSTNAME,
    RELAY_PORT,
    ModelProvider,
)
from chowder_local.core.errors.process import PortTaken, RelayPortTaken
from chowder_local.core.errors.requests import BodiesTooMany, BodyTooLarge, ClientStalled
from chowder_local.core.errors.upstream import RelayTokenInvalid, StreamBroken
from chowder_local.core.long_values import off_loop
from chowder_local.http.bodies import BodyMemory, check_values
from chowder_local.http.hang_ups import HungUp, watch_for_hang_up
from chowder_local.http.listener import SandboxConnection, bound_socket, break_off, listening
from chowder_local.http.middleware import OriginGuard
from chowder_local.instances.gateway_events import MAX_BODY_BYTES as MAX_EVENTS_BYTES
from chowder_local.instances.gateway_events import PATH as EVENTS_PATH
from chowder_local.relay.calls import RelayRequest, wire_format
from chowder_local.relay.service import UNRETRIED_STATUS
from chowder_local.relay.upstreams import ENDPOINT_PATH

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Message, Receive, Scope, Send

    from chowder_local.instances.gateway_events import GatewayEvents
    from chowder_local.relay.calls import ModelAnswer
    from chowder_local.relay.service import Relay
    from chowder_local.store.database import MetaQueries

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_LARGE_BODIES = 8
MAX_LARGE_BODIES_PER_ADDRESS = 2
"""Each sandbox has its own address."""
RELAY_GRACE_S = 1
"""No client waits for an agent any more when the relay stops, and a model call of a messenger's
turn may have no end."""
STOPPING = "The server is stopping."
UNEXPECTED = "The server could not make the model call: its log has the cause."


def create_relay_app(
    relay: Relay,
    gateway_events: GatewayEvents | None = None,
    routes: Sequence[BaseRoute] = (),
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Starlette:
    """The ASGI application of the relay; the others are left out in tests of model calls.

    `routes` are what features take of agents.
    """
    calls = _Calls(relay, max_body_bytes)
    more: list[BaseRoute] = []
    if gateway_events is not None:
        more.append(Route(f"/{EVENTS_PATH}", _Events(gateway_events), methods=["POST"]))
    app = Starlette(
        routes=[
            Route("/health", _health),
            *more,
            *routes,
            Route("/{provider}/{path:path}", calls, methods=["GET", "POST"]),
        ],
        middleware=[Middleware(OriginGuard, hosts=[RELAY_HOSTNAME], origins=[])],
    )
    app.router.redirect_slashes = False
    return app


async def bind_relay(
    addresses: Sequence[str], meta: MetaQueries, stack: AsyncExitStack
) -> tuple[list[socket.socket], int]:
    """Binds the relay's sockets, one for each address, to one port, the same at every start.

    The first start may choose the port. Raises RelayPortTaken if a later one finds it in use.
    """
    stored_port = await meta.get("relay_port")
    host, *others = addresses
    bound = [_relay_socket(host, None if stored_port is None else int(stored_port))]
    stack.callback(bound[0].close)
    port: int = bound[0].getsockname()[1]
    for other in others:
        # One port for all: a sandbox's network can change, but its configuration stays.
        bound.append(_relay_socket(other, port))
        stack.callback(bound[-1].close)
    await meta.put("relay_port", str(port))
    return bound, port


def serve_relay(
    relay: Relay,
    sockets: Sequence[socket.socket],
    gateway_events: GatewayEvents | None = None,
    routes: Sequence[BaseRoute] = (),
) -> AbstractAsyncContextManager[None]:
    """Serves the relay during the block."""
    app = create_relay_app(relay, gateway_events, routes)
    return listening(
        app, *sockets, grace_s=RELAY_GRACE_S, protocol=SandboxConnection, takes_websockets=True
    )


def _relay_socket(host: str, stored_port: int | None) -> socket.socket:
    try:
        return bound_socket(host, stored_port or RELAY_PORT)
    except PortTaken:
        if stored_port is not None:
            raise RelayPortTaken(host, stored_port) from None
        return bound_socket(host, 0)


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


@dataclass(eq=False, repr=False)
class _Events:
    """Takes what gateways tell."""

    gateway_events: GatewayEvents

    def __post_init__(self) -> None:
        self._body_memory = BodyMemory(
            MAX_LARGE_BODIES * MAX_EVENTS_BYTES, MAX_LARGE_BODIES_PER_ADDRESS * MAX_EVENTS_BYTES
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        _, _, token = request.headers.get("authorization", "").partition(" ")
        status = 204
        try:
            # Nobody without a token gets to send a body.
            sandbox_id = self.gateway_events.sandbox_of(token)
            async with self._body_memory.body(request, MAX_EVENTS_BYTES) as body:
                await self.gateway_events.receive(sandbox_id, body)
        except RelayTokenInvalid:
            status = 401
        except (BodiesTooMany, BodyTooLarge, ClientStalled) as error:
            status = error.http_status or 503
        except (ClientDisconnect, ValueError):
            status = 400
        await Response(status_code=status)(scope, receive, send)


@dataclass(eq=False, repr=False)
class _Calls:
    """Serves model calls; a call whose sandbox disconnects is cancelled at once."""

    relay: Relay
    max_body_bytes: int

    def __post_init__(self) -> None:
        self._body_memory = BodyMemory(
            MAX_LARGE_BODIES * self.max_body_bytes,
            MAX_LARGE_BODIES_PER_ADDRESS * self.max_body_bytes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The stack releases the body's memory after the call.
        async with AsyncExitStack() as stack:
            await self._handle(scope, receive, send, stack)

    async def _handle(
        self, scope: Scope, receive: Receive, send: Send, stack: AsyncExitStack
    ) -> None:
        request = Request(scope, receive)
        provider = _provider(request)
        if provider is None:
            return await Response(status_code=404)(scope, receive, send)
        try:
            reading = self._body_memory.body(request, self.max_body_bytes)
            body = await stack.enter_async_context(reading)
            await off_loop(check_values, body)
        except BodiesTooMany as error:
            return await _refusal(provider, 503, str(error))(scope, receive, send)
        except (BodyTooLarge, ClientStalled, ValueError) as error:
            status = getattr(error, "http_status", None) or 400
            return await _refusal(provider, status, str(error))(scope, receive, send)
        except ClientDisconnect:
            return None
        return await self._respond(_call(request, provider, body), scope, receive, send)

    async def _respond(
        self, request: RelayRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        has_begun = False

        async def tracked_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            return await self._serve(request, scope, receive, tracked_send)
        except asyncio.CancelledError:
            # Only a stopping server cancels calls, after the grace period.
            _log.info("A call of %s was cut off by the server's end.", request.provider)
            message = STOPPING
        except Exception:  # noqa: BLE001 - logged, with its traceback
            _log.exception("A call of %s failed unexpectedly.", request.provider)
            message = UNEXPECTED
        if not has_begun:
            await _refusal(request.provider, UNRETRIED_STATUS, message)(scope, receive, send)
        return None

    async def _serve(
        self, request: RelayRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer: ModelAnswer | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(watch_for_hang_up(receive))
                try:
                    answer = await self.relay.answer(request)
                    await _stream(answer, send)
                except RelayTokenInvalid as error:
                    await _refusal(request.provider, 401, str(error))(scope, receive, send)
                except StreamBroken:
                    # An orderly end would pass for a whole response. The relay has logged why.
                    break_off(receive)
                watcher.cancel()
        except* HungUp:
            _log.info("A sandbox left a call of %s before its end.", request.provider)
        finally:
            if answer is not None:
                await answer.close()


def _provider(request: Request) -> str | None:
    provider, path = request.path_params["provider"], request.path_params["path"]
    # Dot segments could leave the provider's base URL.
    if not {"..", "."}.isdisjoint(path.split("/")):
        return None
    if provider == OTHER_PROVIDERS:
        is_served = request.method == "POST" and path == ENDPOINT_PATH
    else:
        is_served = provider in set(ModelProvider)
    return provider if is_served else None


async def _stream(answer: ModelAnswer, send: Send) -> None:
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    async for chunk in answer.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _call(request: Request, provider: str, body: bytes) -> RelayRequest:
    # Undecoded, because a decoded path may name another resource.
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path = raw_path.decode("latin-1").removeprefix(f"/{provider}/")
    return RelayRequest(
        provider, request.method, path, request.url.query, request.headers.items(), body
    )


def _refusal(provider: str, status: int, message: str) -> Response:
    body = wire_format(provider).error_body(status, message)
    return Response(body, status, media_type="application/json")
