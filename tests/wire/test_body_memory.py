"""Many large bodies at once, on real sockets: what they hold together has a bound on the relay."""

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
from chowder_local.http.body_memory import UNCOUNTED_BYTES, WAIT_S, BodyMemory, _Share
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
    """Reads bodies, and answers no one before it may."""

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
    """One that clients of the same address may use up."""
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
    """A body of which nobody is told how long it will be."""
    for _ in range(length // 65_536):
        yield b"x" * 65_536


@pytest.mark.parametrize("is_told", [True, False])
async def test_all_large_bodies_are_taken_but_only_so_many_at_once(is_told: bool) -> None:
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
        # The others have come as far as they get.
        await eventually(
            lambda: len(server.body_memory._waiting) == CLIENTS - AT_ONCE, "others wait"
        )
        assert server.read == AT_ONCE
        server.may_answer.set()
    answers = [each.result() for each in asking]
    assert {(each.status_code, each.text) for each in answers} == {(200, str(LARGEST))}
    assert server.most_held <= AT_ONCE * LARGEST
    assert server.body_memory.held_bytes == 0


async def test_small_bodies_wait_for_nobody() -> None:
    async with serving(memory(LARGEST)) as (server, client), asyncio.TaskGroup() as group:
        for length in (LARGEST, LARGEST, *[UNCOUNTED_BYTES] * CLIENTS):
            group.create_task(client.post("/", content=b"x" * length))
        await eventually(lambda: server.read == 1 + CLIENTS, "all but a large one were read")
        server.may_answer.set()


async def test_who_waits_too_long_is_told_to_try_again() -> None:
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
        # Nothing is kept of it.
        assert (await client.post("/", content=b"x" * LARGEST)).status_code == 200
    assert server.body_memory.held_bytes == 0


async def test_a_client_that_drips_has_to_go_as_soon_as_others_wait_for_long() -> None:
    async with serving(memory(LARGEST, wait_s=0.3)) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(BEGUN)
        await eventually(lambda: server.body_memory.held_bytes, "it has begun")
        server.may_answer.set()
        # By itself it would have half a minute, and more with every byte.
        waiting = asyncio.gather(*(client.post("/", content=b"x" * LARGEST) for _ in range(2)))
        assert b" 503 " in await reader.readline()
        writer.close()
        assert {each.status_code for each in await waiting} <= {200, 503}
    assert server.body_memory.held_bytes == 0


async def test_to_say_that_a_body_is_large_takes_nothing_from_anyone() -> None:
    async with serving(memory(LARGEST)) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        writers = []
        for _ in range(CLIENTS):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(BEGUN[: UNCOUNTED_BYTES // 2])
            writers.append(writer)
        await eventually(lambda: len(server.body_memory._reading) == CLIENTS, "all have begun")
        server.may_answer.set()
        assert (await client.post("/", content=b"x" * LARGEST)).status_code == 200
        for writer in writers:
            writer.close()


async def test_a_client_that_leaves_gives_back_what_it_held() -> None:
    async with serving(memory(LARGEST)) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(BEGUN)
        await eventually(lambda: server.body_memory.held_bytes, "it has begun")
        server.may_answer.set()
        writer.close()
        assert (await client.post("/", content=b"x" * LARGEST)).status_code == 200


async def test_one_address_takes_no_more_than_its_part() -> None:
    body_memory = BodyMemory(4 * UNCOUNTED_BYTES, 2 * UNCOUNTED_BYTES)
    first, second, other = _Share("a"), _Share("a"), _Share("b")
    await body_memory._grow(first, 2 * UNCOUNTED_BYTES)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(body_memory._grow(second, UNCOUNTED_BYTES))
        await eventually(lambda: body_memory._waiting, "it waits for its own like")
        # Who comes later from elsewhere is not held up.
        await body_memory._grow(other, 2 * UNCOUNTED_BYTES)
        assert not waiting.done()
        body_memory._shrink(first, 0)
    assert body_memory.held_bytes == 3 * UNCOUNTED_BYTES


async def test_one_that_is_given_up_as_its_turn_comes_takes_nothing() -> None:
    body_memory = memory(2)
    first, second, third = (_Share("a") for _ in range(3))
    await body_memory._grow(first, 2)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(body_memory._grow(second, 2))
        await eventually(lambda: len(body_memory._waiting) == 1, "the second waits")
        staying = group.create_task(body_memory._grow(third, 2))
        await eventually(lambda: len(body_memory._waiting) == 2, "the third waits")
        leaving.cancel()
        # Before the one that leaves has heard of it.
        body_memory._shrink(first, 0)
    assert leaving.cancelled()
    assert staying.done()
    assert (second.held, third.held, body_memory.held_bytes) == (0, 2, 2)
