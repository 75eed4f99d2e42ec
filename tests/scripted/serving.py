"""Serves an application on a real socket, in the test's event loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp

DEADLINE_S = 10.0
POLL_S = 0.005


class _Server(uvicorn.Server):
    """Sets an event once it has started, and stops at once instead of at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self.must_stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.must_stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own shutdown waits 0.1 s without need, in hundreds of tests.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


@asynccontextmanager
async def serve(app: ASGIApp) -> AsyncIterator[str]:
    """Serves an application on a free port of the loopback; yields its URL."""
    # Only on a socket with this protocol does asyncio disable the delay of small writes (40 ms).
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(
            uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            async with asyncio.timeout(DEADLINE_S):
                await server.has_started.wait()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.must_stop.set()


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
