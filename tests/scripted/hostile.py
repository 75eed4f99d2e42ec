"""A hostile gateway on a real socket that sends the bytes that a test chooses."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

PIECE = b"x" * 64 * 1024
CLOSED = b"Connection: close\r\n"
BEAT_S = 0.005
LONGEST_GAP_S = 1.0
"""Far more than the 50 ms that are the goal, for a busy machine."""


@asynccontextmanager
async def heartbeat(what: str) -> AsyncIterator[None]:
    """Fails if the block holds the event loop for LONGEST_GAP_S.

    Prints the longest gap, and how much processor time the loop's thread had in one gap at most.
    """
    longest_s = longest_cpu_s = 0.0

    async def beat() -> None:
        nonlocal longest_s, longest_cpu_s
        last = time.monotonic(), time.thread_time()
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic(), time.thread_time()
            longest_s = max(longest_s, now[0] - last[0] - BEAT_S)
            longest_cpu_s = max(longest_cpu_s, now[1] - last[1])
            last = now

    # What earlier tests have left is not the server's, and takes the collector half a second.
    gc.freeze()
    beating = asyncio.create_task(beat())
    # The first beat is before the block, which may hold the loop from its start.
    await asyncio.sleep(0)
    try:
        yield
        # One more beat sees a gap at the very end.
        await asyncio.sleep(2 * BEAT_S)
    finally:
        beating.cancel()
        gc.unfreeze()
    gap, cpu = f"{longest_s * 1000:.0f} ms", f"{longest_cpu_s * 1000:.0f} ms"
    print(f"{what}: {gap}, processor {cpu}")  # noqa: T201 - the figure, for who wants to see it
    assert longest_s < LONGEST_GAP_S, what


class HostileGateway:
    """Answers each request with `pieces`, one after the other, until the client disconnects."""

    def __init__(self) -> None:
        self.pieces: Iterable[bytes] = ()
        self.hangs = False
        """Whether the connection then stays open, instead of being closed."""
        self.pause_s = 0.0
        """The time between two pieces."""
        self.connections = 0
        """How many connections are open."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                # A real sandbox is another process, which does not block the server's loop.
                await asyncio.sleep(self.pause_s)
            if self.hangs:
                while await reader.read(65536):
                    pass
        except (OSError, asyncio.IncompleteReadError):
            # The client has disconnected.
            pass
        finally:
            self.connections -= 1
            writer.close()


@asynccontextmanager
async def serve_hostile() -> AsyncIterator[tuple[HostileGateway, str]]:
    """A listening gateway and its URL."""
    gateway = HostileGateway()
    server = await asyncio.start_server(gateway.handle, "127.0.0.1", 0)
    async with server:
        yield gateway, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


def response(body: bytes, media_type: str = "application/json", status: str = "200 OK") -> bytes:
    """A complete HTTP response with any body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + CLOSED + b"\r\n" + body


def json_response(content: Any) -> bytes:
    """A complete JSON response."""
    return response(json.dumps(content).encode())


def response_head(
    media_type: str = "application/json", more: bytes = b"", status: str = "200 OK"
) -> bytes:
    """The head of a response whose body ends with the connection."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\n"
    return head.encode() + more + b"\r\n"


def event_stream(*contents: Any) -> bytes:
    """A response with an event stream."""
    events = [
        f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in contents
    ]
    return response_head("text/event-stream") + "".join(events).encode()
