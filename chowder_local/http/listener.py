"""Listening sockets and uvicorn servers, with bounds on what a client's connections take."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from chowder_local.core.errors.process import PortTaken, SettingsInvalid
from chowder_local.core.tasks import Shutdown, owned_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Self

    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

DESCRIPTORS_MAX = 10_240
"""What macOS allows; many systems start processes with 1,024 or fewer."""
DESCRIPTORS_PER_CONNECTION = 5
"""A message takes four at most: its client's, gateway's, sandbox's and provider's."""
CONNECTIONS_MAX = 2_000
MAX_FRAME_BYTES = 1024 * 1024
"""Of a message on a WebSocket."""
PONG_TIMEOUT_S = 3600.0
"""A stopped agent answers no ping; its WebSocket goes on when it is started."""


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with limits on the length of a head and the time that it takes.

    Uvicorn refuses requests beyond its `limit_concurrency`; before that, the connection that has
    been idle for longest is closed for a new one.
    """

    max_head_bytes = 64 * 1024
    head_s = 15.0
    """The time for a whole head, or for the rest of a body that was answered before its end."""
    keep_alive_s = 75
    """The time until the next request: longer than clients keep a connection that they do not use
    (Node 4 s, httpx 5, aiohttp 15). If the server closed it first, it could do so while a request
    is on its way, which would be lost.
    """

    # Uvicorn narrows the type, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accepts the connection; if the server is full, closes another one that is idle."""
        super().connection_made(transport)
        self._idle_since_s, self._latest = self.loop.time(), self.cycle
        # This counts the bytes of a head, and those of the extensions and trailers of chunks.
        self._head_bytes = 0
        self._make_room()

    def _make_room(self) -> None:
        if self.limit_concurrency is None or len(self.connections) < self.limit_concurrency:
            return
        if idle := [each for each in self._others() if each.is_idle]:
            min(idle, key=lambda each: each._idle_since_s).transport.abort()

    def _others(self) -> list[Self]:
        return [each for each in self.connections if isinstance(each, type(self)) and each != self]

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress on it."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Parses the data, and refuses a head that is longer than `max_head_bytes`."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self.max_head_bytes and not self.transport.is_closing():
            self._refuse(431, "The request's head is too large.")

    def send_400_response(self, msg: str) -> None:
        """Refuses a request that the parser cannot read; its exception is being handled."""
        if isinstance(sys.exception(), httptools.HttpParserInvalidURLError):
            msg = "The request's path or query has bytes that must be percent-encoded."
        self._refuse(400, msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the request is answered as one without an upgrade."""

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        super().on_headers_complete()
        if not self._should_upgrade():
            # Trailers that follow the body must not be taken for headers.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    @property
    def _is_kept(self) -> bool:
        """Whether the last request is over, and none has begun since."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.more_body and not self._head_bytes

    def check_idle(self) -> None:
        """Closes the connection if its client is late with a head; called every second."""
        now_s = self.loop.time()
        if not self.is_idle or self.cycle is not self._latest:
            # The timer notices here that a request has begun, so that no request has to set a time.
            self._idle_since_s, self._latest = now_s, self.cycle
        limit_s = self.keep_alive_s if self._is_kept else self.head_s
        # A client may take any time to read a response.
        if self.transport.get_write_buffer_size() or now_s - self._idle_since_s <= limit_s:
            return
        if self._head_bytes and not self.transport.is_closing():
            self._refuse(408, "The request's head did not arrive in time.")
        else:
            self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Sends an error response in the API's shape, and closes the connection."""
        body = b'{"detail":"%s"}' % message.encode()
        head = (
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % len(body)
        )
        if self.is_idle or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + head + body)
        log.info("a connection is refused: %s", message)
        self.transport.close()


class SandboxConnection(Connection):
    """A connection from a sandbox, which may be hostile: an address has a limit of its own.

    A client that does not read its response is disconnected.
    """

    unread_s = 65.0
    _unread_bytes = 0
    _unread_since_s = 0.0

    def _make_room(self) -> None:
        address = self._address
        same = sum(each._address == address for each in self._others())
        if address is not None and same >= self.max_per_address:
            self._refuse(429, "Too many connections from this address.")
        else:
            super()._make_room()

    @property
    def max_per_address(self) -> int:
        """How many connections an address may have; the loopback has no such limit."""
        return max((self.limit_concurrency or CONNECTIONS_MAX) // 8, 16)

    @property
    def _address(self) -> str | None:
        """The client's address; None on the loopback, which many clients share."""
        address = "" if self.client is None else self.client[0].removeprefix("::ffff:")
        return None if address.startswith(("127.", "::1")) else address

    def resume_writing(self) -> None:
        self._unread_since_s = self.loop.time()
        super().resume_writing()

    def check_idle(self) -> None:
        """Closes the connection also if its client reads nothing for `unread_s`."""
        super().check_idle()
        now_s, unread_bytes = self.loop.time(), self.transport.get_write_buffer_size()
        if not unread_bytes or not self._unread_bytes or unread_bytes < self._unread_bytes:
            self._unread_since_s = now_s
        self._unread_bytes = unread_bytes
        if unread_bytes and now_s - self._unread_since_s > self.unread_s:
            log.info("a client that reads nothing is disconnected")
            self.transport.abort()


def break_off(receive: Receive) -> None:
    """Closes a request's connection in the middle of the response."""
    cycle = getattr(receive, "__self__", None)
    if isinstance(cycle, RequestResponseCycle):
        # Otherwise uvicorn would log that the application did not finish its response.
        cycle.disconnected = True
        # The handler may be waiting for its client to leave.
        cycle.message_event.set()
        cycle.transport.close()


def raise_descriptor_limit() -> None:
    """Raises this process's limit on open files and sockets, to DESCRIPTORS_MAX at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """How many connections there may be if each needs descriptors for a message."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(soft // DESCRIPTORS_PER_CONNECTION, 16))


# How long open requests may take to end when the server stops.
GRACE_S = 3
# How long cancelled requests may then take to send their error responses.
CANCEL_S = 1.0
TICKS_PER_S = 10
"""How often uvicorn calls `on_tick`."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Makes a listening socket.

    Raises PortTaken if another process listens there, SettingsInvalid if this process cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # Takes over a port whose old connections linger, but never one that is listened on.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from error
        hint = " Choose a port of 1024 or above." if error.errno == errno.EACCES else ""
        reason = f"Cannot listen on {host}:{port}: {error.strerror}.{hint}"
        raise SettingsInvalid(reason) from error
    bound.setblocking(False)
    return bound


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to its process, and ends streams when it stops."""

    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Checks each second for idle clients."""
        if counter % TICKS_PER_S == 0:
            for each in list(self.server_state.connections):
                if isinstance(each, Connection):
                    each.check_idle()
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Begins to stop; a second call cancels the requests that are still open."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the sockets, ends streams, waits for other requests, and cancels the late ones."""
        # The streams that this ends run on only after uvicorn has closed its sockets.
        self._shutdown.begin()
        await super().shutdown(sockets)
        if cancelled := set(self.server_state.tasks):
            # uvicorn cancels them, but does not wait for their end.
            await asyncio.wait(cancelled, timeout=CANCEL_S)


def listener(
    app: ASGIApp,
    *,
    grace_s: int = GRACE_S,
    shutdown: Shutdown | None = None,
    protocol: type[Connection] = Connection,
    takes_websockets: bool = False,
) -> Listener:
    """Makes a server for the app, with the settings that the API and the relay share.

    The caller runs the lifespan: uvicorn would turn its errors into tracebacks.
    """
    return Listener(
        uvicorn.Config(
            app,
            http=protocol,
            limit_concurrency=connection_limit(),
            ws="websockets-sansio" if takes_websockets else "none",
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_timeout=PONG_TIMEOUT_S,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # No proxy is trusted to name the client's address.
            proxy_headers=False,
            timeout_keep_alive=protocol.keep_alive_s,
            timeout_graceful_shutdown=grace_s,
        ),
        shutdown or Shutdown(),
    )


def with_state(app: ASGIApp, state: Mapping[str, Any]) -> ASGIApp:
    """Gives the app's requests the state that its lifespan yielded, as `request.state`."""

    async def stateful(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return stateful


@asynccontextmanager
async def listening(
    app: ASGIApp,
    *bound: socket.socket,
    grace_s: int = GRACE_S,
    protocol: type[Connection] = Connection,
    takes_websockets: bool = False,
) -> AsyncIterator[None]:
    """Serves the app on the sockets during the block, and closes them."""
    server = listener(app, grace_s=grace_s, protocol=protocol, takes_websockets=takes_websockets)
    async with owned_tasks() as group:
        serving = group.create_task(server.serve(sockets=[*bound]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving
