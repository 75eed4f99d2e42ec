"""Streams on a real socket: they end with their client, and are never buffered without bound."""

from __future__ import annotations

import asyncio
import logging
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
from tests.scripted.serving import loopback_client, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    Handler = Callable[[Request], Awaitable[Response]]

DEADLINE_S = 10.0


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serves the handler behind the middleware; yields its URL."""
    app = middleware.Api(
        routes=[Route("/", handler, methods=["GET", "POST"])],
        middleware=middleware.stack([], Metrics()),
    )
    async with serve(app) as url:
        yield url


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[httpx.Response]:
    async with (
        loopback_client() as client,
        client.stream("POST", url, json={}) as answer,
    ):
        yield answer


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
