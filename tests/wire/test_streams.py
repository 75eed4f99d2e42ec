"""Streams on a real socket: they end with their client, and are never buffered without bound."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.metrics import Metrics
from chowder_local.core.tasks import Shutdown
from chowder_local.http import middleware
from chowder_local.http.responses import ClosingStream, event_stream, while_connected
from tests.scripted.serving import eventually, loopback_client, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    Handler = Callable[[Request], Awaitable[Response]]

DEADLINE_S = 10.0
CHUNK_BYTES = 64 * 1024
# Far more than all socket and server buffers together.
FAR_TOO_MUCH_BYTES = 256 * 1024 * 1024
SOCKETS_HOLD_BYTES = 32 * 1024 * 1024


class Source:
    """A generator of events that counts them and notices when it is closed."""

    def __init__(self, event: bytes = b"data: x\n\n", *, is_endless: bool = False) -> None:
        self._event = event
        self._is_endless = is_endless
        self.sent_bytes = 0
        self.has_begun = asyncio.Event()
        self.is_closed = asyncio.Event()

    async def events(self) -> AsyncIterator[bytes]:
        self.has_begun.set()
        try:
            while True:
                self.sent_bytes += len(self._event)
                yield self._event
                # Real sources wait for something between two events.
                await (asyncio.sleep(0) if self._is_endless else asyncio.Event().wait())
                # As every real source does; otherwise a disconnect could not be noticed.
                await asyncio.sleep(0)
        finally:
            self.is_closed.set()

    async def closed(self) -> None:
        """Waits until it is closed; fails at the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            await self.is_closed.wait()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serves the handler behind the middleware; yields its URL."""
    app = middleware.Api(
        routes=[Route("/", handler, methods=["GET", "POST"])],
        middleware=middleware.stack([], Metrics()),
    )
    async with serve(app) as url:
        yield url


def streamed(source: Source) -> Handler:
    async def handler(_: Request) -> Response:
        return event_stream(source.events())

    return handler


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[httpx.Response]:
    async with (
        loopback_client() as client,
        client.stream("POST", url, json={}) as answer,
    ):
        yield answer


async def test_a_client_that_disconnects_from_a_stream_closes_its_source_at_once() -> None:
    source = Source()
    async with serving(streamed(source)) as url:
        async with asking(url) as answer:
            assert await anext(answer.aiter_bytes()) == b"data: x\n\n"
            assert not source.is_closed.is_set()
        await source.closed()


async def test_a_client_that_disconnects_before_the_first_event_closes_the_source() -> None:
    has_begun, is_closed = asyncio.Event(), asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        has_begun.set()
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            is_closed.set()

    async def handler(_: Request) -> Response:
        return event_stream(silent())

    async with serving(handler) as url:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_read(url))
            await has_begun.wait()
            waiting.cancel()
        async with asyncio.timeout(DEADLINE_S):
            await is_closed.wait()


async def _read(url: str) -> str:
    async with asking(url) as answer:
        return (await answer.aread()).decode()


async def test_the_server_buffers_little_for_a_client_that_reads_nothing() -> None:
    source = Source(b"data: " + b"x" * CHUNK_BYTES + b"\n\n", is_endless=True)
    async with serving(streamed(source)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.socket() as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(
                client, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            )
            await source.has_begun.wait()
            sent_bytes = await _when_it_stalls(source)
            assert CHUNK_BYTES < sent_bytes < SOCKETS_HOLD_BYTES
            # It continues when the client reads.
            await _drain(client, sent_bytes)
            await eventually(lambda: source.sent_bytes > sent_bytes, "the source goes on")
        await source.closed()


async def _when_it_stalls(source: Source) -> int:
    """How much was sent once sending has stalled."""
    before = -1
    while source.sent_bytes != before and source.sent_bytes < FAR_TOO_MUCH_BYTES:
        before = source.sent_bytes
        await asyncio.sleep(0.2)
    return source.sent_bytes


async def _drain(client: socket.socket, at_least_bytes: int) -> None:
    read = 0
    while read < at_least_bytes // 2:
        chunk = await asyncio.get_running_loop().sock_recv(client, 1024 * 1024)
        assert chunk, "the server has hung up"
        read += len(chunk)


async def test_a_slow_client_gets_every_byte_in_order() -> None:
    events = [f"data: {number:06d} {'x' * 1000}\n\n".encode() for number in range(2000)]

    async def numbered() -> AsyncIterator[bytes]:
        for event in events:
            yield event

    async def handler(_: Request) -> Response:
        return event_stream(numbered())

    async with serving(handler) as url, asking(url) as answer:
        received = bytearray()
        async for chunk in answer.aiter_bytes():
            received += chunk
            await asyncio.sleep(0)
    assert bytes(received) == b"".join(events)


async def test_an_error_before_the_first_event_is_an_error_response() -> None:
    async def broken() -> AsyncIterator[bytes]:
        for event in list[bytes]():
            yield event
        raise GatewayUnavailable("gone")

    async def handler(_: Request) -> Response:
        return event_stream(broken())

    async with serving(handler) as url, loopback_client() as client:
        answer = await client.post(url)
    assert (answer.status_code, answer.json()) == (
        502,
        {"detail": {"error": "Gateway unavailable – gone"}},
    )


async def test_a_stream_without_events_is_an_empty_response() -> None:
    async def empty() -> AsyncIterator[bytes]:
        for event in list[bytes]():
            yield event

    async def handler(_: Request) -> Response:
        return event_stream(empty())

    async with serving(handler) as url, loopback_client() as client:
        answer = await client.post(url)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_stream_that_fails_in_the_middle_closes_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"data: x\n\n"
        raise RuntimeError("a defect")

    async def handler(_: Request) -> Response:
        return event_stream(broken())

    async with serving(handler) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            await _read(url)
    assert "unexpected error" in caplog.text


async def test_a_chowder_error_in_a_stream_closes_the_connection_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a line\n"
        raise EngineUnavailable("The engine is away.")

    async def handler(_: Request) -> Response:
        return ClosingStream(broken(), media_type="text/plain")

    async with serving(handler) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            await _read(url)
    assert "a response broke off: The engine is away." in caplog.text
    assert not any(record.levelno >= logging.ERROR for record in caplog.records)


async def test_a_busy_stream_is_closed_when_its_client_leaves() -> None:
    source = Source(b"x" * CHUNK_BYTES, is_endless=True)

    async def handler(_: Request) -> Response:
        return ClosingStream(source.events(), media_type="text/plain")

    async with serving(handler) as url:
        async with asking(url) as answer:
            await anext(answer.aiter_bytes())
        await source.closed()


async def test_a_call_whose_client_leaves_is_cancelled() -> None:
    has_begun, is_cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> dict[str, Any]:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()
        return {}

    async def handler(request: Request) -> Response:
        await request.body()
        done = await while_connected(request, work)
        return Response(status_code=499) if done is None else JSONResponse(done)

    async with serving(handler) as url:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_read(url))
            await has_begun.wait()
            assert not is_cancelled.is_set()
            waiting.cancel()
        async with asyncio.timeout(DEADLINE_S):
            await is_cancelled.wait()


async def test_a_call_whose_client_stays_returns_or_raises() -> None:
    async def handler(request: Request) -> Response:
        content = await request.json()

        async def work() -> dict[str, Any]:
            await asyncio.sleep(0)
            if content.get("fails"):
                raise GatewayUnavailable("gone")
            return {"done": True}

        return JSONResponse(await while_connected(request, work))

    async with serving(handler) as url, loopback_client() as client:
        good = await client.post(url, json={})
        bad = await client.post(url, json={"fails": True})
    assert good.json() == {"done": True}
    assert bad.status_code == 502


async def test_a_stream_ends_properly_when_the_server_stops() -> None:
    source, shutdown = Source(), Shutdown()

    async def handler(_: Request) -> Response:
        return event_stream(source.events(), shutdown=shutdown)

    async with serving(handler) as url, asking(url) as answer:
        chunks = answer.aiter_bytes()
        assert await anext(chunks) == b"data: x\n\n"
        shutdown.begin()
        # A broken connection would raise.
        assert [chunk async for chunk in chunks] == []
    await source.closed()


async def test_a_stream_that_ends_itself_is_not_cut_when_the_server_stops() -> None:
    shutdown, has_ended = Shutdown(), asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        yield b"data: first\n\n"
        await has_ended.wait()
        yield b"data: last\n\n"

    async def handler(_: Request) -> Response:
        return event_stream(events(), shutdown=shutdown, ends_itself=True)

    async with serving(handler) as url, asking(url) as answer:
        chunks = answer.aiter_bytes()
        assert await anext(chunks) == b"data: first\n\n"
        shutdown.begin()
        has_ended.set()
        assert [chunk async for chunk in chunks] == [b"data: last\n\n"]


async def test_a_stream_without_a_first_event_is_refused_when_the_server_stops() -> None:
    shutdown, has_begun = Shutdown(), asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        has_begun.set()
        await asyncio.Event().wait()
        yield b""

    async def handler(_: Request) -> Response:
        return event_stream(silent(), shutdown=shutdown)

    async with serving(handler) as url, loopback_client() as client:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client.post(url))
            await has_begun.wait()
            shutdown.begin()
        answer = waiting.result()
    assert answer.status_code == 502
    assert answer.json()["detail"]["error"].endswith("the server is stopping")


@pytest.mark.parametrize("has_stopped", [False, True])
async def test_a_result_that_arrives_while_the_server_stops_is_sent(
    has_stopped: bool,
) -> None:
    shutdown = Shutdown()

    async def handler(request: Request) -> Response:
        async def work() -> str:
            if has_stopped:
                shutdown.begin()
            return "done"

        return JSONResponse(await while_connected(request, work, shutdown))

    async with serving(handler) as url, loopback_client() as client:
        assert (await client.post(url)).json() == "done"
