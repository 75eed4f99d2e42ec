"""Programs inside sandboxes: the engine's exec call, over one socket, without threads."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.sandboxes import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 256 * 1024
COMPLAINT_BYTES = 8 * 1024
_HEADER = struct.Struct(">BxxxL")
_STDERR = 2


class DockerProcess:
    """One exec of the engine; the engine multiplexes its outputs in frames with a header.

    https://docs.docker.com/reference/api/engine/ (ContainerAttach: stream format)
    """

    def __init__(
        self, connection: socket.socket, inspect: Callable[[], Any], idle_timeout_s: float
    ) -> None:
        self._connection = connection
        self._inspect = inspect
        self._idle_timeout_s = idle_timeout_s
        self._buffer = bytearray()
        self._complaint = bytearray()
        # Of the frame that is being read: which output it is of, and how much of it is to come.
        self._stream, self._left = 0, 0

    async def write(self, chunk: bytes) -> None:
        """Puts bytes into its standard input; waits while it does not read them."""
        loop = asyncio.get_running_loop()
        await self._bounded(loop.sock_sendall(self._connection, chunk))

    async def close_input(self) -> None:
        """Ends its standard input."""
        self._connection.shutdown(socket.SHUT_WR)

    async def read(self) -> bytes:
        """The next bytes of its standard output; empty when it has ended."""
        while True:
            if self._left and self._buffer:
                content = bytes(self._buffer[: self._left])
                del self._buffer[: len(content)]
                self._left -= len(content)
                if self._stream != _STDERR:
                    return content
                self._complaint = (self._complaint + content)[-COMPLAINT_BYTES:]
            elif not self._left and len(self._buffer) >= _HEADER.size:
                self._stream, self._left = _HEADER.unpack_from(self._buffer)
                del self._buffer[: _HEADER.size]
            elif not await self._receive():
                return b""

    async def exit_code(self) -> int | None:
        """How it ended; None if it has not."""
        details = await self._inspect()
        code: int | None = details.get("ExitCode")
        return code

    @property
    def complaint(self) -> str:
        """The end of what it wrote to its standard error so far."""
        return self._complaint.decode(errors="replace").strip()

    async def _receive(self) -> bool:
        loop = asyncio.get_running_loop()
        chunk = await self._bounded(loop.sock_recv(self._connection, READ_BYTES))
        self._buffer += chunk
        return bool(chunk)

    async def _bounded(self, action: Any) -> Any:
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await action
        except TimeoutError:
            raise EngineUnavailable(
                f"The sandbox has not moved for {self._idle_timeout_s:.0f} s."
            ) from None
        except OSError as broken:
            raise EngineUnavailable(
                f"The connection into the sandbox broke off: {broken.strerror}."
            ) from broken


def socket_of(file: Any) -> socket.socket:
    """The socket behind what the SDK hands out, for use by the event loop and to be closed."""
    connection: socket.socket = getattr(file, "_sock", file).dup()
    # The SDK's own end hangs on its response, which complains when it is closed from below.
    file._response.close()
    connection.setblocking(False)
    return connection
