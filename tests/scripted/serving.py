"""A real server on a real socket, in the test's own event loop."""

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
    """Says when it has started, and stops when told, not at its next tick."""

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
        # uvicorn's own waits a tenth of a second for nothing, which hundreds of tests would pay.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


@asynccontextmanager
async def serve(app: ASGIApp) -> AsyncIterator[str]:
    """Serves an application on a free port of the loopback; gives its URL."""
    # asyncio sends small writes at once only on sockets that say they are TCP, others wait 40 ms.
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


def loopback_client(**options: Any) -> httpx.AsyncClient:
    """A client of a server here: without TLS it need not read the certificates, for 15 ms."""
    return httpx.AsyncClient(verify=False, **options)


async def eventually(holds: Callable[[], object], what: str) -> None:
    """Waits until a condition holds; fails with `what` at the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():  # noqa: ASYNC110 - the condition may be anyone's
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S:g} s: {what}") from None
