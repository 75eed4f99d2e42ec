"""Serves an application on a real socket, in the test's event loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp

DEADLINE_S = 10.0
POLL_S = 0.005


class Server(uvicorn.Server):
    """Sets an event once it has started, and stops at once instead of at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self.must_stop = asyncio.Event()
        self._listeners: dict[int, socket.socket] = {}
        self._accepting: set[asyncio.Task[None]] = set()

    def open_port(self) -> int:
        """Serves the application on one more free port of the loopback."""
        # asyncio disables the delay of small writes (40 ms) only on a socket with this protocol.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port: int = listener.getsockname()[1]
        self._listeners[port] = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, port)
        return port

    def close_port(self, port: int) -> None:
        """Refuses connections to an opened port from now on, and breaks off those that are open."""
        self._stop_listening(port)
        for connection in list(self.server_state.connections):
            if connection.transport.get_extra_info("sockname")[1] == port:
                connection.transport.abort()

    def _stop_listening(self, port: int) -> None:
        listener = self._listeners.pop(port)
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, port: int) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listeners[port].accept()
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._connect(connection, port))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _connect(self, connection: socket.socket, port: int) -> None:
        # asyncio's own servers leave open what they have accepted when they are closed.
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(self._protocol, connection)
        if port not in self._listeners:
            transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.must_stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own shutdown waits 0.1 s without need, in hundreds of tests.
        for port in list(self._listeners):
            self._stop_listening(port)
        await asyncio.gather(*self._accepting)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


@asynccontextmanager
async def serve(app: ASGIApp) -> AsyncIterator[str]:
    """Serves an application on a free port of the loopback; yields its URL."""
    async with open_server(app) as server:
        yield f"http://127.0.0.1:{server.open_port()}"


@asynccontextmanager
async def open_server(app: ASGIApp) -> AsyncIterator[Server]:
    """A server of an application, on the ports that are opened."""
    server = Server(
        uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve(sockets=[]))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await server.has_started.wait()
        yield server
    finally:
        server.must_stop.set()
        await serving


@asynccontextmanager
async def no_lifespan(_: object) -> AsyncIterator[Any]:
    """The lifespan of an application whose state is made elsewhere."""
    yield {}


def loopback_client(**options: Any) -> httpx.AsyncClient:
    """A client for servers on this machine; it skips reading certificates, which takes 15 ms."""
    return httpx.AsyncClient(verify=False, **options)


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Waits until a condition holds; fails with the text `what` at the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S:g} s: {what}") from None
