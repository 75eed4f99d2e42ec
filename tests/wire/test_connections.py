"""Clients that stand still, flood or never stop: what a connection may take has bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from chowder_local.http import bodies, listener
from chowder_local.http.bodies import read_body
from chowder_local.http.connections import Connection, SandboxConnection, connection_limit
from chowder_local.http.listener import bound_socket, listening
from chowder_local.http.middleware import Api, ErrorMiddleware
from chowder_local.http.streams import ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

TIMEOUT_S = 30.0
GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT_S = 0.3
HEAD_BYTES = 8192
PATIENCE_S = 0.3
PIECE = b"x" * 65_536


class Lasting(Connection):
    """As the API's, but for shorter heads."""

    head_bytes = HEAD_BYTES


class Hasty(Lasting):
    """As the API's, but for less patience."""

    head_s = SHORT_S


class HastySandbox(SandboxConnection):
    """As the relay's, but for less patience."""

    head_bytes = HEAD_BYTES
    head_s = SHORT_S
    unread_s = SHORT_S


@dataclass
class Server:
    """What serves, what became of its endless streams, and when its held ones may end."""

    port: int
    left: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def told(self, *pieces: bytes) -> bytes:
        """All that is answered to what is sent, until the server hangs up."""
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
    # Asked for as late as this, when there may be trailers.
    return PlainTextResponse(f"{length} {[name.decode() for name, _ in request.scope['headers']]}")


async def refuse(_: Request) -> Response:
    return PlainTextResponse("not read", 413)


async def impatient(request: Request) -> Response:
    body = await read_body(request, 10**9, patience_s=PATIENCE_S)
    return PlainTextResponse(str(len(body)))


async def quiet(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        # Longer than a head may take, or a client may read nothing.
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
                    # As what comes from elsewhere does.
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
    # Or the system takes some megabytes for a client that reads nothing.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    server = Server(bound.getsockname()[1])
    async with listening(_app(server), bound, grace_s=0, protocol=protocol):
        yield server


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=[Hasty, HastySandbox])
async def _hasty_server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    """One that soon gives clients up, and looks for them at each of uvicorn's ticks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listener, "TICKS_PER_S", 1)
        async with serving(request.param) as server:
            yield server


@pytest.fixture
async def relay_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """One that soon gives up clients that read nothing."""
    monkeypatch.setattr(listener, "TICKS_PER_S", 1)
    async with asyncio.timeout(TIMEOUT_S), serving(HastySandbox) as server:
        yield server


@pytest.fixture(scope="module")
async def _server() -> AsyncIterator[Server]:
    """One that gives nobody up within a test."""
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


async def test_a_head_that_never_ends_is_given_up_in_words(hasty_server: Server) -> None:
    heads = (GET[:1], GET[:20], GET[:-2])
    for head, told in zip(heads, await asyncio.gather(*map(hasty_server.told, heads)), strict=True):
        assert told.startswith(b"HTTP/1.1 408 "), head
        assert told.endswith(b'{"detail":"The request\'s head did not come in time."}'), head


NO_HTTP = {
    "GET /größe HTTP/1.1\r\n\r\n".encode(): b"path or query has bytes that have to be percent-",
    b"GET /hello?q=\xe9 HTTP/1.1\r\n\r\n": b"path or query has bytes that have to be percent-",
    b"HELLO\r\n\r\n": b"Invalid HTTP request received.",
    b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx": b"Invalid HTTP request",
}


async def test_what_is_no_http_is_a_400_in_json(server: Server) -> None:
    for sent, words in NO_HTTP.items():
        head, _, body = (await server.told(sent)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 "), sent
        assert b"content-type: application/json" in head, sent
        assert words in json.loads(body)["detail"].encode(), sent


async def test_who_says_nothing_is_given_up(hasty_server: Server) -> None:
    nothing, one_and_a_half = await asyncio.gather(
        hasty_server.told(b""), hasty_server.told(GET + GET[:-2])
    )
    assert nothing == b""
    assert b"hello" in one_and_a_half


BEGINNINGS = (
    b"GET /",
    b"GET /hello HTTP/1.1\r\nX-Long: ",
    b"GET /hello HTTP/1.1\r\nX",
    b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
    b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=",
)


async def test_a_head_or_trailer_of_any_length_is_not_kept(server: Server) -> None:
    for beginning in BEGINNINGS:
        reader, writer = await server.connect()
        writer.write(beginning)
        sent_bytes = await _sent(writer, 100 * 1024 * 1024)
        # What is on its way may be megabytes.
        assert sent_bytes < 50 * 1024 * 1024, beginning
        writer.close()
        assert b"200" not in await _rest(reader), beginning


async def _sent(writer: asyncio.StreamWriter, limit_bytes: int) -> int:
    """How much of so much could be sent before the server hung up."""
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


async def test_a_head_that_is_too_long_is_told_so(server: Server) -> None:
    told = await server.told(b"GET /hello HTTP/1.1\r\nX-Long: " + b"x" * 9000)
    assert told.startswith(b"HTTP/1.1 431 ")
    assert told.endswith(b'{"detail":"The request\'s head is too large."}')


async def test_many_short_requests_in_one_piece_are_all_answered(server: Server) -> None:
    reader, writer = await server.connect()
    # Together they are longer than a head may be.
    count = 3 * HEAD_BYTES // len(GET)
    writer.write(GET * count)
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_a_body_is_of_any_length_and_trailers_are_no_headers(server: Server) -> None:
    pieces = [b"%x\r\n%b\r\n" % (len(PIECE), PIECE)] * 100
    head = b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    told = await server.told(head, *pieces, b"0\r\nAuthorization: Bearer x\r\n\r\n")
    assert told.endswith(b"%d ['transfer-encoding', 'connection']" % (100 * len(PIECE)))


async def test_an_agent_that_reads_nothing_of_a_stream_is_dropped_and_the_stream_is_closed(
    relay_server: Server,
) -> None:
    left = relay_server.left
    _, writer = await relay_server.connect()
    writer.write(b"GET /endless HTTP/1.1\r\n\r\n")
    await left.wait()
    writer.close()


async def test_who_reads_slowly_gets_on(hasty_server: Server) -> None:
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


async def test_a_stream_may_be_quiet_for_as_long_as_it_likes(hasty_server: Server) -> None:
    told = await hasty_server.told(b"GET /quiet HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"last" in told


async def test_who_sends_on_after_the_answer_gets_the_answer_and_is_given_up(
    hasty_server: Server,
) -> None:
    reader, writer = await hasty_server.connect()
    writer.write(b"POST /refuse HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    await _sent(writer, sys.maxsize)
    writer.close()


@pytest.mark.parametrize("protocol", [Connection, SandboxConnection])
async def test_a_connection_that_waits_for_nothing_makes_room_for_a_request(
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
        # The one that had waited longest.
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
        told = await server.told(GET)
        assert told.startswith(b"HTTP/1.1 503 ")
        # Those that are there go on.
        server.may_end.set()
        for reader, writer in busy:
            assert await reader.readuntil(b"last")
            writer.close()


async def test_one_address_has_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the loopback can be called from in a test, so it has to pass for a sandbox's.
    monkeypatch.setattr(SandboxConnection, "_address", "172.17.0.9")
    monkeypatch.setattr(listener, "connection_limit", lambda: 17)
    async with asyncio.timeout(TIMEOUT_S), serving(SandboxConnection) as server:
        first = [await server.connect() for _ in range(16)]
        told = await server.told(b"")
        assert told.startswith(b"HTTP/1.1 429 ")
        for reader, writer in first:
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()


def test_a_process_keeps_descriptors_for_all_that_a_message_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert connection_limit() * 4 < 1024


def test_a_process_may_have_as_many_descriptors_as_it_is_let_have() -> None:
    program = (
        "import resource as r; from chowder_local.http import connections as c;"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300)); c.raise_descriptor_limit();"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (300, 300); c.raise_descriptor_limit()"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


async def test_a_body_that_stands_still_is_given_up_in_words(server: Server) -> None:
    head = b"POST /impatient HTTP/1.1\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
    told = await server.told(head, b"half")
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"has not moved for %g s" % PATIENCE_S in told


async def test_a_body_that_drips_is_given_up_as_well(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(b"POST /impatient HTTP/1.1\r\nContent-Length: 999\r\n\r\n")
    answer = asyncio.ensure_future(reader.readline())
    while not answer.done():
        writer.write(b"x")
        await asyncio.wait([answer], timeout=0.05)
    assert (await answer).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_body_that_moves_may_take_longer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SLOWEST_BYTES_PER_S", len(PIECE))
    reader, writer = await server.connect()
    writer.write(b"POST /impatient HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (4 * len(PIECE)))
    for _ in range(4):
        writer.write(PIECE)
        await writer.drain()
        # Four of these are longer than the patience.
        await asyncio.sleep(PATIENCE_S / 3)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_who_leaves_in_the_middle_of_a_body_is_no_defect_of_ours(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await server.connect()
    writer.write(b"POST /length HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
    await writer.drain()
    writer.transport.abort()
    # What was asked before is over when this is answered.
    await server.told(GET[:-2] + b"Connection: close\r\n\r\n")
    assert not [each for each in caplog.records if each.exc_info]
