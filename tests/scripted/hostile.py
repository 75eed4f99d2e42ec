"""A gateway that means harm: on a real socket, and with whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

PIECE = b"x" * 64 * 1024
CLOSED = b"Connection: close\r\n"


class HostileGateway:
    """Answers each request with `pieces`, one after the other, as long as somebody listens."""

    def __init__(self) -> None:
        self.pieces: Iterable[bytes] = ()
        self.hangs = False
        """Whether it then says nothing more, instead of hanging up."""
        self.connections = 0
        """How many are open."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                # A sandbox is another process, which takes no turns from the server's loop.
                await asyncio.sleep(0)
            if self.hangs:
                while await reader.read(65536):
                    pass
        except (OSError, asyncio.IncompleteReadError):
            # Whoever asked has had enough.
            pass
        finally:
            self.connections -= 1
            writer.close()


@asynccontextmanager
async def serve_hostile() -> AsyncIterator[tuple[HostileGateway, str]]:
    """One that listens, and its URL."""
    gateway = HostileGateway()
    server = await asyncio.start_server(gateway.handle, "127.0.0.1", 0)
    async with server:
        yield gateway, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


def whole(body: bytes, media_type: str = "application/json", status: str = "200 OK") -> bytes:
    """An answer that is HTTP, whatever its body is."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + CLOSED + b"\r\n" + body


def said(content: Any) -> bytes:
    """An answer of JSON."""
    return whole(json.dumps(content).encode())


def begun(media_type: str = "application/json", more: bytes = b"") -> bytes:
    """The head of an answer that ends when the connection does."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + media_type.encode() + b"\r\n" + more + b"\r\n"


def streamed(*contents: Any) -> bytes:
    """An event stream."""
    events = [
        f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in contents
    ]
    return begun("text/event-stream") + "".join(events).encode()
