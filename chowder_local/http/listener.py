"""Sockets that are ours before anything else is opened, and uvicorn servers on them."""

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

# How long open requests may take to end; without it they would keep the process for ever.
GRACE_S = 3
# What is cut off then has its last words to say, and these are not waited for longer.
CUT_S = 1.0
TICKS_PER_S = 10
"""Uvicorn's."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens nowhere else. Raises PortTaken, SettingsInvalid."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # Only lets us take over a port whose last connections still linger, never a living one.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as refused:
        bound.close()
        if refused.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise PortTaken(host, port) from refused
        raise SettingsInvalid(f"Cannot listen on {host}:{port}: {refused.strerror}.") from refused
    bound.setblocking(False)
    return bound


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs the process, and tells streams."""

    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Looks for clients that stand still, each second."""
        if counter % TICKS_PER_S == 0:
            for each in list(self.server_state.connections):
                if isinstance(each, Connection):
                    each.check_idle()
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Begins to stop; asked once more, it waits for nothing that is still open."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no new connections, ends streams, lets the rest end, and cuts off what does not."""
        # Whoever is told gets to run only after uvicorn has closed its sockets.
        self._shutdown.begin()
        await super().shutdown(sockets)
        if cut := set(self.server_state.tasks):
            # uvicorn tells them to end and does not wait until they have.
            await asyncio.wait(cut, timeout=CUT_S)


def listener(
    app: ASGIApp,
    *,
    grace_s: int = GRACE_S,
    shutdown: Shutdown | None = None,
    protocol: type[Connection] = Connection,
) -> Listener:
    """A server for the app, with the settings that all of ours have in common.

    The lifespan is run by whoever calls this: uvicorn would turn its errors into tracebacks.
    """
    return Listener(
        uvicorn.Config(
            app,
            http=protocol,
            limit_concurrency=connection_limit(),
            # There are no routes for it.
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Nobody stands before us whose word on a client's address we would take.
            proxy_headers=False,
            timeout_graceful_shutdown=grace_s,
        ),
        shutdown or Shutdown(),
    )


def with_state(app: ASGIApp, state: Mapping[str, Any]) -> ASGIApp:
    """The app, whose requests find in `request.state` what its lifespan yielded."""

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
    """Serves the app on the sockets while inside the block, and closes them."""
    server = listener(app, grace_s=grace_s, protocol=protocol)
    async with owned_tasks() as group:
        serving = group.create_task(server.serve(sockets=[*bound]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving
