"""Listening sockets of the server and its workers, and the connections that they have accepted."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

from chowder_local.core.tasks import contained

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from chowder_local.engine.swarm.tunnel import Streams

    Handle = Callable[[Streams], Awaitable[None]]


class Listeners:
    """Each connection is handled in a task of its own; all end with the block of `opened`."""

    def __init__(self) -> None:
        self._servers: dict[object, asyncio.Server] = {}
        self._tasks: dict[asyncio.Task[None], object] = {}

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        listeners = cls()
        try:
            yield listeners
        finally:
            await listeners.close()

    async def listen(
        self, host: str, port: int, handle: Handle, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listens at an address of this machine; 0 chooses a port. Returns the port.

        Raises OSError.
        """
        server = await asyncio.start_server(self._begin(handle, host), host, port, ssl=tls)
        bound: int = server.sockets[0].getsockname()[1]
        self._servers[host, bound] = server
        return bound

    async def listen_at_path(self, path: Path, handle: Handle) -> None:
        """Listens at a Unix socket. Raises OSError."""
        self._servers[path] = await asyncio.start_unix_server(self._begin(handle, path), path)

    def end(self, host: str, port: int) -> None:
        """Listens there no more; the connections that it has accepted go on."""
        if (server := self._servers.pop((host, port), None)) is not None:
            server.close()

    def end_at_path(self, path: Path) -> None:
        """Listens at that Unix socket no more, and ends the connections that it has accepted."""
        if (server := self._servers.pop(path, None)) is not None:
            server.close()
            path.unlink(missing_ok=True)
            self.end_connections(path)

    def assign_connection(self, key: object) -> None:
        """Lets `end_connections` end the connection that the calling task handles."""
        if (task := asyncio.current_task()) in self._tasks:
            self._tasks[task] = key

    def end_connections(self, key: object) -> None:
        """Ends the accepted connections that have this key."""
        for task, each in self._tasks.items():
            if each == key:
                task.cancel()

    async def close(self) -> None:
        """Listens no more, and ends all connections."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self, handle: Handle, key: object
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        async def handled(streams: Streams) -> None:
            try:
                # A connection that breaks has ended.
                with contained("a connection"), suppress(OSError):
                    await handle(streams)
            finally:
                streams[1].close()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(handled((reader, writer)))
            self._tasks[task] = key
            task.add_done_callback(self._tasks.pop)

        return begin
