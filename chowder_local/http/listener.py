"""Listening sockets, which are bound before anything else is opened, and uvicorn servers."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from chowder_local.core.errors.process import PortTaken, SettingsInvalid
from chowder_local.core.shutdown import Shutdown
from chowder_local.core.tasks import owned_tasks
from chowder_local.http.connections import Connection, connection_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

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
) -> Listener:
    """Makes a server for the app, with the settings that the API and the relay share.

    The caller runs the lifespan: uvicorn would turn its errors into tracebacks.
    """
    return Listener(
        uvicorn.Config(
            app,
            http=protocol,
            limit_concurrency=connection_limit(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # No proxy is trusted to name the client's address.
            proxy_headers=False,
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
) -> AsyncIterator[None]:
    """Serves the app on the sockets during the block, and closes them."""
    server = listener(app, grace_s=grace_s, protocol=protocol)
    async with owned_tasks() as group:
        serving = group.create_task(server.serve(sockets=[*bound]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving
