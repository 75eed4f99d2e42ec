"""Connections of clients that stall, flood or never stop have limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from chowder_local.http import bodies, listener
from chowder_local.http.bodies import read_body
from chowder_local.http.listener import (
    Connection,
    SandboxConnection,
    bound_socket,
    connection_limit,
    listening,
)
from chowder_local.http.middleware import Api, ErrorMiddleware
from chowder_local.http.responses import ClosingStream
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

TIMEOUT_S = 30.0
GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT_S = 0.3
HEAD_BYTES = 8192
BODY_TIMEOUT_S = 0.3
PIECE = b"x" * 65_536


class Lasting(Connection):
    """The API's connection with a shorter head limit."""

    max_head_bytes = HEAD_BYTES


class Hasty(Lasting):
    """The API's connection with shorter timeouts."""

    head_s = SHORT_S
    keep_alive_s = 1


class HastySandbox(SandboxConnection):
    """The relay's connection with shorter timeouts."""

    max_head_bytes = HEAD_BYTES
    head_s = SHORT_S
    keep_alive_s = 1
    unread_s = SHORT_S


class Checked(Lasting):
    """A connection that is checked often for a late head, and counts that."""

    head_s = SHORT_S
    checks = 0

    def check_idle(self) -> None:
        super().check_idle()
        type(self).checks += 1

    @classmethod
    def reached(cls, checks: int) -> bool:
        return cls.checks >= checks


@dataclass
class Server:
    """A server, the state of its endless streams, and when its held ones may end."""

    port: int
    left: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *pieces: bytes) -> bytes:
        """Sends the pieces, and returns the response up to the end of the connection."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def length(request: Request) -> Response:
    length = len(await read_body(request, 10**9))
    # Only now, because trailers follow the body.
    return PlainTextResponse(f"{length} {[name.decode() for name, _ in request.scope['headers']]}")


async def refuse(_: Request) -> Response:
    return PlainTextResponse("not read", 413)


async def impatient(request: Request) -> Response:
    body = await read_body(request, 10**9, timeout_s=BODY_TIMEOUT_S)
    return PlainTextResponse(str(len(body)))


async def quiet(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        # Longer than the timeouts of heads and unread data.
        await asyncio.sleep(2 * SHORT_S)
        yield b"last"

    return StreamingResponse(pieces())


def _app(server: Server) -> Api:
    async def endless(_: Request) -> Response:
        left = server.left

        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield PIECE
                    # Like a source that waits for the network.
                    await asyncio.sleep(0)
            finally:
                left.set()

        return ClosingStream(pieces())

    async def held(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await server.may_end.wait()
            yield b"last"

        return StreamingResponse(pieces())

    return Api(
        routes=[
            Route("/hello", hello),
            Route("/length", length, methods=["POST"]),
            Route("/refuse", refuse, methods=["POST"]),
            Route("/impatient", impatient, methods=["POST"]),
            Route("/quiet", quiet),
            Route("/endless", endless),
            Route("/held", held),
        ],
        middleware=[Middleware(ErrorMiddleware)],
    )


@asynccontextmanager
async def serving(protocol: type[Connection]) -> AsyncIterator[Server]:
    bound = bound_socket("127.0.0.1", 0)
    # Otherwise the system buffers megabytes for a client that reads nothing.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    server = Server(bound.getsockname()[1])
    async with listening(_app(server), bound, grace_s=0, protocol=protocol):
        yield server


@pytest.fixture(scope="module", params=[Hasty, HastySandbox])
async def _hasty_server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """A server with short timeouts, which it checks at each of uvicorn's ticks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listener, "TICKS_PER_S", 1)
        async with serving(request.param) as server:
            yield server


@pytest.fixture
async def relay_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server that soon disconnects clients that read nothing."""
    monkeypatch.setattr(listener, "TICKS_PER_S", 1)
    async with asyncio.timeout(TIMEOUT_S), serving(HastySandbox) as server:
        yield server


@pytest.fixture(scope="module")
async def _server() -> AsyncIterator[Server]:
    """A server that disconnects nobody within a test."""
    async with serving(Lasting) as server:
        yield server


@pytest.fixture
async def hasty_server(_hasty_server: Server) -> AsyncIterator[Server]:
    async with asyncio.timeout(TIMEOUT_S):
        yield _hasty_server


@pytest.fixture
async def server(_server: Server) -> AsyncIterator[Server]:
    async with asyncio.timeout(TIMEOUT_S):
        yield _server


async def test_a_head_that_never_ends_is_a_408(hasty_server: Server) -> None:
    heads = (GET[:1], GET[:20], GET[:-2])
    for head, reply in zip(
        heads, await asyncio.gather(*map(hasty_server.exchange, heads)), strict=True
    ):
        assert reply.startswith(b"HTTP/1.1 408 "), head
        assert reply.endswith(b'{"detail":"The request\'s head did not arrive in time."}'), head


NO_HTTP = {
    "GET /größe HTTP/1.1\r\n\r\n".encode(): b"path or query has bytes that must be percent-",
    b"GET /hello?q=\xe9 HTTP/1.1\r\n\r\n": b"path or query has bytes that must be percent-",
    b"HELLO\r\n\r\n": b"Invalid HTTP request received.",
    b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx": b"Invalid HTTP request",
}


async def test_invalid_http_is_a_400_in_json(server: Server) -> None:
    for sent, words in NO_HTTP.items():
        head, _, body = (await server.exchange(sent)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 "), sent
        assert b"content-type: application/json" in head, sent
        assert words in json.loads(body)["detail"].encode(), sent


async def test_a_silent_connection_is_closed(hasty_server: Server) -> None:
    nothing, one_and_a_half = await asyncio.gather(
        hasty_server.exchange(b""), hasty_server.exchange(GET + GET[:-2])
    )
    assert nothing == b""
    assert b"hello" in one_and_a_half


async def test_a_connection_waits_longer_for_the_next_request_than_for_the_rest_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "TICKS_PER_S", 1)
    # The end of a body may come apart.
    chunked = b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with asyncio.timeout(TIMEOUT_S), serving(Checked) as server:
        reader, writer = await server.connect()
        for pieces in ((GET,), (chunked, b"0\r\n\r\n"), (GET,)):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.read(100)
            # Ten times 0.1 s, and so longer than a head may take.
            await eventually(partial(Checked.reached, Checked.checks + 10), "it was checked")
        writer.close()


BEGINNINGS = (
    b"GET /",
    b"GET /hello HTTP/1.1\r\nX-Long: ",
    b"GET /hello HTTP/1.1\r\nX",
    b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
    b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=",
)


async def test_a_long_head_or_trailer_is_not_read_to_its_end(server: Server) -> None:
    for beginning in BEGINNINGS:
        reader, writer = await server.connect()
        writer.write(beginning)
        sent_bytes = await _sent(writer, 100 * 1024 * 1024)
        # Megabytes may be in transit.
        assert sent_bytes < 50 * 1024 * 1024, beginning
        writer.close()
        assert b"200" not in await _rest(reader), beginning


async def _sent(writer: asyncio.StreamWriter, limit_bytes: int) -> int:
    """How many bytes could be sent before the server closed the connection."""
    sent_bytes = 0
    with contextlib.suppress(ConnectionError):
        while sent_bytes < limit_bytes:
            writer.write(PIECE)
            await writer.drain()
            sent_bytes += len(PIECE)
    return sent_bytes


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_head_that_is_too_long_is_a_431(server: Server) -> None:
    reply = await server.exchange(b"GET /hello HTTP/1.1\r\nX-Long: " + b"x" * 9000)
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert reply.endswith(b'{"detail":"The request\'s head is too large."}')


async def test_many_pipelined_requests_are_all_answered(server: Server) -> None:
    reader, writer = await server.connect()
    # Together they are longer than the limit of a head.
    count = 3 * HEAD_BYTES // len(GET)
    writer.write(GET * count)
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_a_body_may_have_any_length_and_trailers_are_not_headers(server: Server) -> None:
    pieces = [b"%x\r\n%b\r\n" % (len(PIECE), PIECE)] * 100
    head = b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    reply = await server.exchange(head, *pieces, b"0\r\nAuthorization: Bearer x\r\n\r\n")
    assert reply.endswith(b"%d ['transfer-encoding', 'connection']" % (100 * len(PIECE)))


async def test_a_sandbox_that_reads_nothing_of_a_stream_is_disconnected(
    relay_server: Server,
) -> None:
    left = relay_server.left
    _, writer = await relay_server.connect()
    writer.write(b"GET /endless HTTP/1.1\r\n\r\n")
    await left.wait()
    writer.close()


async def test_a_slow_reader_stays_connected(hasty_server: Server) -> None:
    hasty_server.left = left = asyncio.Event()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", hasty_server.port))
        await loop.sock_sendall(client, b"GET /endless HTTP/1.1\r\n\r\n")
        began_s = loop.time()
        while loop.time() - began_s < 3 * SHORT_S:
            assert await loop.sock_recv(client, 65_536)
            await asyncio.sleep(0.01)
        assert not left.is_set()


async def test_a_stream_may_be_quiet_for_any_time(hasty_server: Server) -> None:
    reply = await hasty_server.exchange(b"GET /quiet HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"last" in reply


async def test_a_client_that_sends_after_its_answer_is_disconnected(
    hasty_server: Server,
) -> None:
    reader, writer = await hasty_server.connect()
    writer.write(b"POST /refuse HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    await _sent(writer, sys.maxsize)
    writer.close()


@pytest.mark.parametrize("protocol", [Connection, SandboxConnection])
async def test_an_idle_connection_is_closed_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch, protocol: type[Connection]
) -> None:
    monkeypatch.setattr(listener, "connection_limit", lambda: 6)
    async with asyncio.timeout(TIMEOUT_S), serving(protocol) as server:
        idle = [await server.connect() for _ in range(5)]
        for _ in range(3):
            reader, writer = await server.connect()
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        # The one that was idle for longest.
        assert await _rest(idle[0][0]) == b""
        for _, writer in idle:
            writer.close()


@pytest.mark.parametrize("protocol", [Connection, SandboxConnection])
async def test_without_an_idle_connection_a_request_beyond_the_limit_is_a_503(
    monkeypatch: pytest.MonkeyPatch, protocol: type[Connection]
) -> None:
    monkeypatch.setattr(listener, "connection_limit", lambda: 4)
    async with asyncio.timeout(TIMEOUT_S), serving(protocol) as server:
        busy = [await server.connect() for _ in range(3)]
        for reader, writer in busy:
            writer.write(b"GET /held HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"first")
        reply = await server.exchange(GET)
        assert reply.startswith(b"HTTP/1.1 503 ")
        # Existing connections go on.
        server.may_end.set()
        for reader, writer in busy:
            assert await reader.readuntil(b"last")
            writer.close()


async def test_the_connections_of_one_address_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests can only call from the loopback, so it has to count as a sandbox's address.
    monkeypatch.setattr(SandboxConnection, "_address", "172.17.0.9")
    monkeypatch.setattr(listener, "connection_limit", lambda: 17)
    async with asyncio.timeout(TIMEOUT_S), serving(SandboxConnection) as server:
        first = [await server.connect() for _ in range(16)]
        reply = await server.exchange(b"")
        assert reply.startswith(b"HTTP/1.1 429 ")
        for reader, writer in first:
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()


def test_the_connection_limit_leaves_descriptors_for_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert connection_limit() * 4 < 1024


def test_the_descriptor_limit_is_raised_to_the_hard_limit() -> None:
    program = (
        "import resource as r; from chowder_local.http import listener as c;"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300)); c.raise_descriptor_limit();"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (300, 300); c.raise_descriptor_limit()"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


async def test_a_body_that_stalls_is_a_400_that_says_so(server: Server) -> None:
    head = b"POST /impatient HTTP/1.1\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
    reply = await server.exchange(head, b"half")
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"sent nothing for %g s" % BODY_TIMEOUT_S in reply


async def test_a_body_that_drips_is_refused(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(b"POST /impatient HTTP/1.1\r\nContent-Length: 999\r\n\r\n")
    answer = asyncio.ensure_future(reader.readline())
    while not answer.done():
        writer.write(b"x")
        await asyncio.wait([answer], timeout=0.05)
    assert (await answer).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_body_at_the_minimum_rate_may_take_longer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MIN_BYTES_PER_S", len(PIECE))
    reader, writer = await server.connect()
    writer.write(b"POST /impatient HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (4 * len(PIECE)))
    for _ in range(4):
        writer.write(PIECE)
        await writer.drain()
        # Four of these are longer than the timeout.
        await asyncio.sleep(BODY_TIMEOUT_S / 3)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_not_an_error(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await server.connect()
    writer.write(b"POST /length HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
    await writer.drain()
    writer.transport.abort()
    # The earlier request has ended when this one is answered.
    await server.exchange(GET[:-2] + b"Connection: close\r\n\r\n")
    assert not [each for each in caplog.records if each.exc_info]
