"""Many large bodies at once on real sockets: their memory together is bounded."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chowder_local.core.errors.requests import BodiesTooMany
from chowder_local.http.bodies import UNMETERED_BYTES, WAIT_S, BodyMemory, _Share
from tests.scripted.serving import eventually, loopback_client, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

MB = 1024 * 1024
LARGEST = MB
AT_ONCE = 3
CLIENTS = 24
SOON_S = 0.05
BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGEST + bytes(LARGEST // 2)


@dataclass
class Server:
    """Reads bodies, and answers when it is released."""

    body_memory: BodyMemory
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    read: int = 0
    most_held: int = 0
    url: str = ""

    async def take(self, request: Request) -> Response:
        try:
            async with self.body_memory.body(request, LARGEST) as body:
                self.read += 1
                self.most_held = max(self.most_held, self.body_memory.held_bytes)
                await self.may_answer.wait()
                return PlainTextResponse(str(len(body)))
        except BodiesTooMany as refused:
            return PlainTextResponse(str(refused), 503)
        except ClientDisconnect:
            return Response()


def memory(limit_bytes: int, wait_s: float = WAIT_S) -> BodyMemory:
    """A budget that the clients of one address may use up."""
    return BodyMemory(limit_bytes, limit_bytes, wait_s)


@asynccontextmanager
async def serving(body_memory: BodyMemory) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    server = Server(body_memory)
    app = Starlette(routes=[Route("/", server.take, methods=["POST"])])
    limits = httpx.Limits(max_connections=None)
    async with (
        serve(app) as url,
        loopback_client(base_url=url, timeout=30, limits=limits) as client,
    ):
        server.url = url
        yield server, client
        server.may_answer.set()


async def in_pieces(length: int) -> AsyncIterator[bytes]:
    """A body without a Content-Length."""
    for _ in range(length // 65_536):
        yield b"x" * 65_536


@pytest.mark.parametrize("is_told", [True, False])
async def test_all_large_bodies_are_read_but_only_some_at_once(is_told: bool) -> None:
    async with (
        serving(memory(AT_ONCE * LARGEST)) as (server, client),
        asyncio.TaskGroup() as group,
    ):
        asking = [
            group.create_task(
                client.post("/", content=b"x" * LARGEST if is_told else in_pieces(LARGEST))
            )
            for _ in range(CLIENTS)
        ]
        await eventually(lambda: server.read == AT_ONCE, "as many were read as may be")
        # The others wait for memory.
        await eventually(
            lambda: len(server.body_memory._waiting) == CLIENTS - AT_ONCE, "others wait"
        )
        assert server.read == AT_ONCE
        server.may_answer.set()
    answers = [each.result() for each in asking]
    assert {(each.status_code, each.text) for each in answers} == {(200, str(LARGEST))}
    assert server.most_held <= AT_ONCE * LARGEST
    assert server.body_memory.held_bytes == 0


async def test_small_bodies_do_not_wait() -> None:
    async with serving(memory(LARGEST)) as (server, client), asyncio.TaskGroup() as group:
        for length in (LARGEST, LARGEST, *[UNMETERED_BYTES] * CLIENTS):
            group.create_task(client.post("/", content=b"x" * length))
        await eventually(lambda: server.read == 1 + CLIENTS, "all but a large one were read")
        server.may_answer.set()


async def test_a_body_that_waits_too_long_is_refused_with_a_retry_hint() -> None:
    async with (
        serving(memory(LARGEST, wait_s=SOON_S)) as (server, client),
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(client.post("/", content=b"x" * LARGEST))
        await eventually(lambda: server.read == 1, "the first was read")
        refused = await client.post("/", content=b"x" * LARGEST)
        assert refused.status_code == 503
        assert f"all of the {LARGEST} bytes" in refused.text
        server.may_answer.set()
        assert (await first).status_code == 200
        # Its memory is released.
        assert (await client.post("/", content=b"x" * LARGEST)).status_code == 200
    assert server.body_memory.held_bytes == 0


async def test_a_slow_client_is_refused_once_others_wait() -> None:
    async with serving(memory(LARGEST, wait_s=0.3)) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(BEGUN)
        await eventually(lambda: server.body_memory.held_bytes, "it has begun")
        server.may_answer.set()
        # Without others it would have half a minute, and more with every byte.
        waiting = asyncio.gather(*(client.post("/", content=b"x" * LARGEST) for _ in range(2)))
        assert b" 503 " in await reader.readline()
        writer.close()
        assert {each.status_code for each in await waiting} <= {200, 503}
    assert server.body_memory.held_bytes == 0


async def test_a_large_content_length_alone_reserves_nothing() -> None:
    async with serving(memory(LARGEST)) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        writers = []
        for _ in range(CLIENTS):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(BEGUN[: UNMETERED_BYTES // 2])
            writers.append(writer)
        await eventually(lambda: len(server.body_memory._reading) == CLIENTS, "all have begun")
        server.may_answer.set()
        assert (await client.post("/", content=b"x" * LARGEST)).status_code == 200
        for writer in writers:
            writer.close()


async def test_a_client_that_leaves_releases_its_memory() -> None:
    async with serving(memory(LARGEST)) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(BEGUN)
        await eventually(lambda: server.body_memory.held_bytes, "it has begun")
        server.may_answer.set()
        writer.close()
        assert (await client.post("/", content=b"x" * LARGEST)).status_code == 200


async def test_one_address_gets_no_more_than_its_limit() -> None:
    body_memory = BodyMemory(4 * UNMETERED_BYTES, 2 * UNMETERED_BYTES)
    first, second, other = _Share("a"), _Share("a"), _Share("b")
    await body_memory._grow(first, 2 * UNMETERED_BYTES)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(body_memory._grow(second, UNMETERED_BYTES))
        await eventually(lambda: body_memory._waiting, "it waits for its own like")
        # A later body from another address does not wait.
        await body_memory._grow(other, 2 * UNMETERED_BYTES)
        assert not waiting.done()
        body_memory._shrink(first, 0)
    assert body_memory.held_bytes == 3 * UNMETERED_BYTES


async def test_a_wait_that_is_cancelled_as_it_is_served_releases_its_memory() -> None:
    body_memory = memory(2)
    first, second, third = (_Share("a") for _ in range(3))
    await body_memory._grow(first, 2)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(body_memory._grow(second, 2))
        await eventually(lambda: len(body_memory._waiting) == 1, "the second waits")
        staying = group.create_task(body_memory._grow(third, 2))
        await eventually(lambda: len(body_memory._waiting) == 2, "the third waits")
        leaving.cancel()
        # Before the cancelled task runs.
        body_memory._shrink(first, 0)
    assert leaving.cancelled()
    assert staying.done()
    assert (second.held, third.held, body_memory.held_bytes) == (0, 2, 2)
