"""Clients that stand still, flood or never stop: what a connection may take has bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from chowder_local.web import bodies
from chowder_local.web.bodies import read_body
from chowder_local.web.budget import Budget
from chowder_local.web.connections import Bounds, Connection, bounds_of_this_process
from chowder_local.web.listener import bound_socket, listening
from chowder_local.web.middleware import Api, Failures
from chowder_local.web.streams import ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

TIMEOUT_S = 30.0
GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT = Bounds(head_bytes=8192, head_s=0.5, unread_s=0.5)
PIECE = b"x" * 65_536
BUDGET = Budget(10**12)


@dataclass
class Server:
    """What serves, and what became of its endless streams."""

    port: int
    left: asyncio.Event

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
    length = len(await read_body(request, 10**9, BUDGET.share(request.scope)))
    # Asked for as late as this, when there may be trailers.
    return PlainTextResponse(f"{length} {[name.decode() for name, _ in request.scope['headers']]}")


async def refuse(_: Request) -> Response:
    return PlainTextResponse("not read", 413)


async def impatient(request: Request) -> Response:
    share = BUDGET.share(request.scope)
    return PlainTextResponse(str(len(await read_body(request, 10**9, share, patience_s=1.0))))


async def quiet(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(4 * SHORT.head_s)
        yield b"last"

    return StreamingResponse(pieces())


def _app(left: asyncio.Event) -> Api:
    async def endless(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield PIECE
                    # As what comes from elsewhere does.
                    await asyncio.sleep(0)
            finally:
                left.set()

        return ClosingStream(pieces())

    return Api(
        routes=[
            Route("/hello", hello),
            Route("/length", length, methods=["POST"]),
            Route("/refuse", refuse, methods=["POST"]),
            Route("/impatient", impatient, methods=["POST"]),
            Route("/quiet", quiet),
            Route("/endless", endless),
        ],
        middleware=[Middleware(Failures)],
    )


@asynccontextmanager
async def serving(bounds: Bounds) -> AsyncIterator[Server]:
    left = asyncio.Event()
    bound = bound_socket("127.0.0.1", 0)
    # Or the system takes some megabytes for a client that reads nothing.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    async with asyncio.timeout(TIMEOUT_S), listening(_app(left), bound, grace_s=0, bounds=bounds):
        yield Server(bound.getsockname()[1], left)


@pytest.mark.parametrize("head", [GET[:1], GET[:20], GET[:-2]])
async def test_a_head_that_never_ends_is_given_up_in_words(head: bytes) -> None:
    async with serving(SHORT) as server:
        told = await server.told(head)
    assert told.startswith(b"HTTP/1.1 408 ")
    assert told.endswith(b'{"detail":"The request\'s head did not come in time."}')


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            "GET /größe HTTP/1.1\r\n\r\n".encode(),
            b"path or query has bytes that have to be percent-",
        ),
        (
            b"GET /hello?q=\xe9 HTTP/1.1\r\n\r\n",
            b"path or query has bytes that have to be percent-",
        ),
        (b"HELLO\r\n\r\n", b"Invalid HTTP request received."),
        (b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx", b"Invalid HTTP request"),
    ],
)
async def test_what_is_no_http_is_a_400_in_json(sent: bytes, words: bytes) -> None:
    async with serving(Bounds()) as server:
        told = await server.told(sent)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert words in json.loads(body)["detail"].encode()


async def test_who_says_nothing_is_given_up() -> None:
    async with serving(SHORT) as server:
        assert await server.told(b"") == b""
        assert b"hello" in await server.told(GET + GET[:-2])


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /",
        b"GET /hello HTTP/1.1\r\nX-Long: ",
        b"GET /hello HTTP/1.1\r\nX",
        b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=",
    ],
)
async def test_a_head_or_trailer_of_any_length_is_not_kept(beginning: bytes) -> None:
    async with serving(Bounds(head_bytes=8192)) as server:
        reader, writer = await server.connect()
        writer.write(beginning)
        sent_bytes = await _sent(writer, 100 * 1024 * 1024)
        # What is on its way may be megabytes.
        assert sent_bytes < 50 * 1024 * 1024
        writer.close()
        assert b"200" not in await _rest(reader)


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


async def test_a_head_that_is_too_long_is_told_so() -> None:
    async with serving(Bounds(head_bytes=8192)) as server:
        told = await server.told(b"GET /hello HTTP/1.1\r\nX-Long: " + b"x" * 9000)
    assert told.startswith(b"HTTP/1.1 431 ")
    assert told.endswith(b'{"detail":"The request\'s head is too large."}')


async def test_many_short_requests_in_one_piece_are_all_answered() -> None:
    async with serving(Bounds(head_bytes=8192)) as server:
        reader, writer = await server.connect()
        writer.write(GET * 2000)
        for _ in range(2000):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_body_is_of_any_length_and_trailers_are_no_headers() -> None:
    async with serving(Bounds(head_bytes=8192)) as server:
        pieces = [b"%x\r\n%b\r\n" % (len(PIECE), PIECE)] * 100
        head = b"POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        told = await server.told(head, *pieces, b"0\r\nAuthorization: Bearer x\r\n\r\n")
    assert told.endswith(b"%d ['transfer-encoding', 'connection']" % (100 * len(PIECE)))


async def test_who_reads_nothing_of_a_stream_is_dropped_and_the_stream_is_closed() -> None:
    async with serving(SHORT) as server:
        _, writer = await server.connect()
        writer.write(b"GET /endless HTTP/1.1\r\n\r\n")
        await server.left.wait()
        writer.close()


async def test_who_reads_slowly_gets_on() -> None:
    async with serving(SHORT) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            await loop.sock_sendall(client, b"GET /endless HTTP/1.1\r\n\r\n")
            began_s = loop.time()
            while loop.time() - began_s < 5 * SHORT.unread_s:
                assert await loop.sock_recv(client, 65_536)
                await asyncio.sleep(0.01)
        assert not server.left.is_set()


async def test_a_stream_may_be_quiet_for_as_long_as_it_likes() -> None:
    async with serving(SHORT) as server:
        told = await server.told(b"GET /quiet HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"last" in told


async def test_who_sends_on_after_the_answer_gets_the_answer_and_is_given_up() -> None:
    async with serving(SHORT) as server:
        reader, writer = await server.connect()
        writer.write(b"POST /refuse HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        await _sent(writer, sys.maxsize)
        writer.close()


async def test_who_waits_for_nothing_makes_room_for_who_asks() -> None:
    async with serving(Bounds(connections=5, of_one_address=5, head_s=60)) as server:
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


async def test_without_anybody_idle_a_new_connection_is_told_that_there_are_too_many() -> None:
    async with serving(Bounds(connections=3, of_one_address=3, head_s=60)) as server:
        busy = [await server.connect() for _ in range(3)]
        for reader, writer in busy:
            writer.write(b"GET /quiet HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"first")
        told = await server.told(b"")
        assert told.startswith(b"HTTP/1.1 503 ")
        assert told.endswith(b'{"detail":"Too many connections."}')
        # Those that are there go on.
        for reader, writer in busy:
            assert await reader.readuntil(b"last")
            writer.close()


async def test_one_address_has_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the loopback can be called from in a test, so it has to pass for a sandbox's.
    monkeypatch.setattr(Connection, "_address", "172.17.0.9")
    async with serving(Bounds(connections=9, of_one_address=2, head_s=60)) as server:
        first = [await server.connect() for _ in range(2)]
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
    bounds = bounds_of_this_process()
    assert bounds.connections * 4 < 1024
    assert bounds.of_one_address == bounds.connections
    assert bounds.for_sandboxes().of_one_address * 4 < bounds.connections


def test_a_transfer_may_stand_still_for_as_long_as_it_is_set_to() -> None:
    assert Bounds(unread_s=60).with_transfers(600).unread_s > 600
    assert Bounds(unread_s=60).with_transfers(1).unread_s == 60


def test_a_process_may_have_as_many_descriptors_as_it_is_let_have() -> None:
    program = (
        "import resource as r; from chowder_local.web import connections as c;"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300)); c.raise_descriptor_limit();"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (300, 300); c.raise_descriptor_limit()"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


async def test_a_body_that_stands_still_is_given_up_in_words() -> None:
    async with serving(Bounds()) as server:
        head = b"POST /impatient HTTP/1.1\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
        told = await server.told(head, b"half")
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"has not moved for 1 s" in told


async def test_a_body_that_drips_is_given_up_as_well() -> None:
    async with serving(Bounds()) as server:
        reader, writer = await server.connect()
        writer.write(b"POST /impatient HTTP/1.1\r\nContent-Length: 999\r\n\r\n")
        answer = asyncio.ensure_future(reader.readline())
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.05)
        assert (await answer).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_body_that_moves_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SLOWEST_BYTES_PER_S", len(PIECE) * 10)
    async with serving(Bounds()) as server:
        reader, writer = await server.connect()
        writer.write(b"POST /impatient HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (10 * len(PIECE)))
        for _ in range(10):
            writer.write(PIECE)
            await writer.drain()
            # Ten of these are longer than the patience.
            await asyncio.sleep(0.11)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_who_leaves_in_the_middle_of_a_body_is_no_defect_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(Bounds()) as server:
        _, writer = await server.connect()
        writer.write(b"POST /length HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()
        # What was asked before is over when this is answered.
        await server.told(GET[:-2] + b"Connection: close\r\n\r\n")
    assert not [each for each in caplog.records if each.exc_info]
