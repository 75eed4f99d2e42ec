"""The relay's own HTTP server, on the sandboxes' networks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from chowder_local.core.domain import (
    OTHER_PROVIDERS,
    RELAY_HOSTNAME,
    RELAY_PORT,
    ModelProvider,
)
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.process import PortTaken, RelayPortTaken
from chowder_local.core.errors.requests import BodiesTooMany, BodyTooLarge, ClientStalled
from chowder_local.core.errors.upstream import InboxUnknown, RelayTokenInvalid, StreamBroken
from chowder_local.core.long_values import off_loop
from chowder_local.http.bodies import BodyMemory, check_values
from chowder_local.http.listener import SandboxConnection, bound_socket, break_off, listening
from chowder_local.http.middleware import OriginGuard
from chowder_local.http.responses import ClosingStream
from chowder_local.instances.gateway_events import MAX_BODY_BYTES as MAX_EVENTS_BYTES
from chowder_local.instances.gateway_events import PATH as EVENTS_PATH
from chowder_local.messengers.mailbox import ChannelFault
from chowder_local.messengers.service import PATH as MESSENGERS_PATH
from chowder_local.messengers.stand_in import (
    MAX_JSON_BYTES,
    Call,
    SocketsTooMany,
    parse_object,
)
from chowder_local.relay.calls import RelayRequest, wire_format
from chowder_local.relay.inbox import INBOX
from chowder_local.relay.inbox import MAX_BODY_BYTES as MAX_WEBHOOK_BYTES
from chowder_local.relay.service import UNRETRIED_STATUS
from chowder_local.relay.upstreams import ENDPOINT_PATH

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Message, Receive, Scope, Send

    from chowder_local.instances.gateway_events import GatewayEvents
    from chowder_local.messengers.service import Messengers
    from chowder_local.relay.calls import ModelAnswer
    from chowder_local.relay.inbox import Inbox
    from chowder_local.relay.service import Relay
    from chowder_local.store.database import MetaQueries

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_LARGE_BODIES = 8
MAX_LARGE_BODIES_PER_ADDRESS = 2
"""Each sandbox has its own address."""
MAX_MESSENGER_BYTES = 20 * 1024 * 1024
MAX_SOCKETS = 16
"""The WebSockets of one agent's channels."""
MAX_UNKNOWN_SOCKETS = 16
"""Those of one address whose clients have not signed in; beyond it, the oldest gives way."""
SIGN_IN_S = 15.0
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
RELAY_GRACE_S = 1
"""No client waits for an agent any more when the relay stops, and a model call of a messenger's
turn may have no end."""
STOPPING = "The server is stopping."
UNEXPECTED = "The server could not make the model call: its log has the cause."


class _HungUp(Exception):
    """The sandbox closed the connection before the response ended."""


def create_relay_app(
    relay: Relay,
    inbox: Inbox | None = None,
    messengers: Messengers | None = None,
    gateway_events: GatewayEvents | None = None,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Starlette:
    """The ASGI application of the relay; the others are left out in tests of model calls."""
    calls = _Calls(relay, max_body_bytes)
    more: list[BaseRoute] = []
    if inbox is not None:
        more.append(Route(f"/{INBOX}/{{token}}{{path:path}}", _Webhooks(inbox)))
    if gateway_events is not None:
        more.append(Route(f"/{EVENTS_PATH}", _Events(gateway_events), methods=["POST"]))
    if messengers is not None:
        stand_ins = _StandIns(messengers)
        path = f"/{MESSENGERS_PATH}/{{channel}}/{{instance_id}}/{{path:path}}"
        methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
        more.append(Route(path, stand_ins.serve_http, methods=methods))
        more.append(WebSocketRoute(path, stand_ins.serve_websocket))
    app = Starlette(
        routes=[
            Route("/health", _health),
            *more,
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
    inbox: Inbox,
    messengers: Messengers,
    sockets: Sequence[socket.socket],
    gateway_events: GatewayEvents | None = None,
) -> AbstractAsyncContextManager[None]:
    """Serves the relay during the block."""
    app = create_relay_app(relay, inbox, messengers, gateway_events)
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
class _Webhooks:
    """Takes webhooks for inboxes, with any method."""

    inbox: Inbox

    def __post_init__(self) -> None:
        self._body_memory = BodyMemory(
            MAX_LARGE_BODIES * MAX_WEBHOOK_BYTES, MAX_LARGE_BODIES_PER_ADDRESS * MAX_WEBHOOK_BYTES
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        status, message = await self._receive(request)
        await JSONResponse({"detail": message}, status)(scope, receive, send)

    async def _receive(self, request: Request) -> tuple[int, str]:
        """The status of the answer, and what it says."""
        try:
            # Nobody without an inbox gets to send a body.
            owner = self.inbox.owner(request.path_params["token"])
            async with self._body_memory.body(request, MAX_WEBHOOK_BYTES) as body:
                await self.inbox.receive(
                    owner,
                    request.method,
                    request.path_params["path"],
                    request.url.query,
                    request.headers.items(),
                    body,
                )
        except InboxUnknown as error:
            return 404, str(error)
        except (BodiesTooMany, BodyTooLarge, ClientStalled) as error:
            return error.http_status or 503, str(error)
        except ClientDisconnect:
            return 400, ""
        except ChowderError as error:
            _log.warning("A webhook could not be kept: %s", error)
            return 503, str(error)
        return 200, "The webhook is in the inbox."


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
                watcher = tasks.create_task(_watch(receive))
                try:
                    answer = await self.relay.answer(request)
                    await _stream(answer, send)
                except RelayTokenInvalid as error:
                    await _refusal(request.provider, 401, str(error))(scope, receive, send)
                except StreamBroken:
                    # An orderly end would pass for a whole response. The relay has logged why.
                    break_off(receive)
                watcher.cancel()
        except* _HungUp:
            _log.info("A sandbox left a call of %s before its end.", request.provider)
        finally:
            if answer is not None:
                await answer.close()


@dataclass(eq=False, repr=False)
class _StandIns:
    """Serves agents' calls of the local messenger; one whose sandbox disconnects is cancelled."""

    messengers: Messengers

    def __post_init__(self) -> None:
        self._body_memory = BodyMemory(8 * MAX_MESSENGER_BYTES, 2 * MAX_MESSENGER_BYTES)
        self._sockets = _Sockets()

    async def serve_http(self, request: Request) -> Response:
        """The answer of the stand-in that the path names."""
        try:
            async with self._body_memory.body(request, MAX_MESSENGER_BYTES) as body:
                call = await _messenger_call(request, body)
        except (BodiesTooMany, BodyTooLarge, ClientStalled) as error:
            return Response(str(error), error.http_status or 503)
        channel, instance_id = _messenger(request)
        response = Response(status_code=404)
        try:
            async with asyncio.TaskGroup() as tasks:
                # A long poll would else outlive its sandbox, and take what the next one is to get.
                watcher = tasks.create_task(_watch(request.receive))
                reply = await self.messengers.reply(channel, instance_id, call)
                if reply is not None and reply.events is not None:
                    response = ClosingStream(
                        reply.events,
                        ends_itself=True,
                        status_code=reply.status,
                        media_type="text/event-stream",
                    )
                elif reply is not None:
                    # Many a client reads an empty body of a type as that type.
                    media_type = reply.content_type if reply.body else None
                    response = Response(reply.body, reply.status, reply.headers, media_type)
                watcher.cancel()
        except* ChannelFault:
            _log.info("A fault cuts a call of %s off.", channel)
            break_off(request.receive)
        except* _HungUp:
            _log.debug("A sandbox left a call of %s before its end.", channel)
        return response

    async def serve_websocket(self, websocket: WebSocket) -> None:
        """A conversation with the stand-in that the path names."""
        channel, instance_id = _messenger(websocket)
        call = Call(
            "GET",
            websocket.path_params["path"],
            dict(websocket.query_params),
            websocket.headers,
            {},
        )
        try:
            async with asyncio.timeout(SIGN_IN_S) as sign_in:
                with self._sockets.opened(websocket, instance_id, sign_in) as opened:
                    await self.messengers.converse(channel, instance_id, call, opened)
        except* (WebSocketDisconnect, SocketsTooMany, TimeoutError) as ended:
            _log.debug("A conversation with %s ends: %r", channel, ended.exceptions)
        if WebSocketState.DISCONNECTED not in {
            websocket.client_state,
            websocket.application_state,
        }:
            await websocket.close()


class _Sockets:
    """The open WebSockets: how many each agent has, and those whose clients are not known yet."""

    def __init__(self) -> None:
        self.of_agents: Counter[str] = Counter()
        self.unknown: defaultdict[str, dict[asyncio.Timeout, None]] = defaultdict(dict)

    @contextmanager
    def opened(
        self, websocket: WebSocket, instance_id: str, sign_in: asyncio.Timeout
    ) -> Iterator[_Socket]:
        """Keeps account of a WebSocket during the block, which `sign_in` ends."""
        address = "" if websocket.client is None else websocket.client.host
        unknown = self.unknown[address]
        unknown[sign_in] = None
        if len(unknown) > MAX_UNKNOWN_SOCKETS:
            oldest = next(iter(unknown))
            del unknown[oldest]
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        opened = _Socket(websocket, instance_id, sign_in, self.of_agents, unknown)
        try:
            yield opened
        finally:
            unknown.pop(sign_in, None)
            if not unknown:
                self.unknown.pop(address, None)
            if opened.is_known:
                self.of_agents[instance_id] -= 1
                if not self.of_agents[instance_id]:
                    del self.of_agents[instance_id]


@dataclass(eq=False, repr=False)
class _Socket:
    websocket: WebSocket
    instance_id: str
    sign_in: asyncio.Timeout
    of_agents: Counter[str]
    unknown: dict[asyncio.Timeout, None]
    is_known: bool = False

    async def accept(self) -> None:
        await self.websocket.accept()

    def admit(self) -> None:
        if self.sign_in.expired():
            # It is being ended.
            return
        if self.of_agents[self.instance_id] >= MAX_SOCKETS:
            raise SocketsTooMany
        self.of_agents[self.instance_id] += 1
        self.is_known = True
        self.unknown.pop(self.sign_in, None)
        self.sign_in.reschedule(None)

    async def send(self, text: str) -> None:
        await self.websocket.send_text(text)

    async def receive(self) -> str:
        try:
            return await self.websocket.receive_text()
        except KeyError:
            # Bytes, which none of the protocols has.
            raise WebSocketDisconnect(1003) from None


def _messenger(connection: Request | WebSocket) -> tuple[str, str]:
    return connection.path_params["channel"], connection.path_params["instance_id"]


async def _messenger_call(request: Request, body: bytes) -> Call:
    headers = request.headers
    if headers.get("content-type", "").startswith(FORMS):
        # The body has been read: Starlette's parser takes it from there.
        request._body = body
        async with request.form(max_files=20, max_fields=100) as fields:
            # Of a file only its name is kept.
            form = {
                name: value if isinstance(value, str) else value.filename or ""
                for name, value in fields.items()
            }
    elif len(body) > MAX_JSON_BYTES and "json" in headers.get("content-type", ""):
        raise BodyTooLarge(MAX_JSON_BYTES)
    else:
        form = await off_loop(parse_object, body)
    path = request.path_params["path"]
    return Call(request.method, path, dict(request.query_params), headers, form, body)


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


async def _watch(receive: Receive) -> None:
    # The body has been read, so the next message is the disconnect.
    await receive()
    raise _HungUp


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
