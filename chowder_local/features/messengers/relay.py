"""What agents call of the local messenger, on the relay's sockets."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from chowder_local.core.errors.requests import BodiesTooMany, BodyTooLarge, ClientStalled
from chowder_local.core.long_values import off_loop
from chowder_local.features.messengers.mailbox import ChannelFault
from chowder_local.features.messengers.service import PATH
from chowder_local.features.messengers.stand_in import (
    MAX_JSON_BYTES,
    Call,
    SocketsTooMany,
    parse_object,
)
from chowder_local.http.bodies import BodyMemory
from chowder_local.http.hang_ups import HungUp, watch_for_hang_up
from chowder_local.http.listener import break_off
from chowder_local.http.responses import ClosingStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from chowder_local.features.messengers.service import Messengers

_log = logging.getLogger(__name__)

MAX_MESSENGER_BYTES = 20 * 1024 * 1024
MAX_SOCKETS = 16
"""The WebSockets of one agent's channels."""
MAX_UNKNOWN_SOCKETS = 16
"""Those of one address whose clients have not signed in; beyond it, the oldest gives way."""
SIGN_IN_S = 15.0
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


def routes(messengers: Messengers) -> list[BaseRoute]:
    """The stand-ins, by the channel's name and the agent's id."""
    stand_ins = _StandIns(messengers)
    path = f"/{PATH}/{{channel}}/{{instance_id}}/{{path:path}}"
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    return [
        Route(path, stand_ins.serve_http, methods=methods),
        WebSocketRoute(path, stand_ins.serve_websocket),
    ]


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
                watcher = tasks.create_task(watch_for_hang_up(request.receive))
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
        except* HungUp:
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
