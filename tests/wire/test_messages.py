"""Messages through the whole server and back, over real sockets on both sides."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import InvalidStatus

from chowder_local.app.application import api
from chowder_local.http.listener import bound_socket, listening, with_state
from chowder_local.upstream import sse
from tests.scripted import gateway as scripted
from tests.scripted.serving import eventually, loopback_client, no_lifespan, serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import httpx
    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance
    from tests.scripted.gateway import ReceivedMessage

DEADLINE_S = 20.0
PIECE = "x" * 64 * 1024
LONG_ANSWER_BYTES = 16 * 1024 * 1024
# Far more than what the sockets of both sides and the server's own buffers hold together.
SOCKETS_HOLD_BYTES = 32 * 1024 * 1024


@dataclass
class ChatStream:
    """A server, an agent behind it, and how to talk with it."""

    world: World
    url: str
    instance: Instance

    @asynccontextmanager
    async def stream(self, session: str = "main") -> AsyncIterator[httpx.Response]:
        """An answer whose events are still coming."""
        async with (
            asyncio.timeout(DEADLINE_S),
            loopback_client(headers={"Authorization": f"Bearer {self.world.key}"}) as client,
            client.stream(
                "POST",
                f"{self.url}/v1/instances/{self.instance.id}/session/{session}/responses",
                json={"model": "claude-sonnet-4", "input": session, "stream": True},
                timeout=None,
            ) as answer,
        ):
            assert answer.status_code == 200
            yield answer


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[ChatStream]:
    async with open_world(tmp_path) as world:
        state = world.state
        async with serve(with_state(api([], no_lifespan, world.metrics), state)) as url:
            yield ChatStream(world, url, await world.created())


def _said(events: list[sse.Event]) -> list[str]:
    contents = [json.loads(each.data or "") for each in events if each.data != "[DONE]"]
    return [each["delta"] for each in contents if each["type"] == scripted.DELTA["type"]]


async def _send(send: Send, words: str) -> None:
    await scripted.events(send, scripted.DELTA | {"delta": words})


async def test_a_websocket_is_refused_with_the_way_that_works(talk: ChatStream) -> None:
    import openai

    state = talk.world.state
    app = with_state(api([], no_lifespan, talk.world.metrics), state)
    bound = bound_socket("127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/instances/{talk.instance.id}"
    async with (
        listening(app, bound),
        openai.AsyncOpenAI(base_url=base_url, api_key=talk.world.key) as client,
    ):
        with pytest.raises(InvalidStatus) as refused:
            await client.responses.connect().enter()
    response = refused.value.response
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert "`stream: true`" in json.loads(response.body or b"")["error"]["message"]


async def test_every_delta_is_there_before_the_next_one_is_sent(talk: ChatStream) -> None:
    has_read = asyncio.Semaphore(0)
    words = [f"word {number}" for number in range(20)]

    async def handler(_: ReceivedMessage, __: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/event-stream")
        for each in words:
            await _send(send, each)
            await has_read.acquire()
        await scripted.events(send, "[DONE]")
        await scripted.end(send)

    talk.world.gateway.handler = handler
    reader, heard = sse.EventReader(), list[str]()
    async with talk.stream() as answer:
        async for chunk in answer.aiter_raw():
            for said in _said(reader.feed(chunk)):
                heard.append(said)
                has_read.release()
    assert heard == words


async def test_a_client_that_reads_nothing_holds_its_own_agent_back_and_nobody_else(
    talk: ChatStream,
) -> None:
    sent_bytes = 0

    async def handler(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        nonlocal sent_bytes
        if asked.body["input"] != "stalled":
            await scripted.friendly(asked, receive, send)
            return
        await scripted.begin(send, 200, "text/event-stream")
        while not talk.world.gateway.has_left.is_set():
            await _send(send, PIECE)
            sent_bytes += len(PIECE)
            await asyncio.sleep(0)

    async def whole(session: str) -> bytes:
        async with talk.stream(session) as answer:
            return await answer.aread()

    talk.world.gateway.handler = handler
    async with talk.stream("stalled"):
        await _when_it_stays(lambda: sent_bytes)
        assert len(PIECE) < sent_bytes < SOCKETS_HOLD_BYTES
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(whole(f"{number}")) for number in range(64)]
        for other in others:
            assert other.result().endswith(b"data: [DONE]\n\n")
        held_bytes = sent_bytes
        assert held_bytes < SOCKETS_HOLD_BYTES


async def _when_it_stays(number: Callable[[], int]) -> None:
    before = -1
    while number() != before and number() < SOCKETS_HOLD_BYTES:
        before = number()
        await asyncio.sleep(0.2)


async def test_the_server_does_not_grow_with_the_length_of_an_answer(talk: ChatStream) -> None:
    async def handler(_: ReceivedMessage, __: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/event-stream")
        for _number in range(LONG_ANSWER_BYTES // len(PIECE)):
            await _send(send, PIECE)
        await scripted.events(send, "[DONE]")
        await scripted.end(send)

    talk.world.gateway.handler = handler
    received_bytes = 0
    async with talk.stream() as answer:
        tracemalloc.start()
        try:
            async for chunk in answer.aiter_raw():
                received_bytes += len(chunk)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received_bytes > LONG_ANSWER_BYTES
    # Gateway, server and client are one process here, and each has its buffers.
    assert peak_bytes < LONG_ANSWER_BYTES / 4


async def test_64_streams_at_once_are_all_whole_and_leave_nothing_open(talk: ChatStream) -> None:
    together = asyncio.Barrier(64)

    async def handler(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        # All 64 are under way before one of them goes on.
        await together.wait()
        await scripted.friendly(asked, receive, send)

    async def whole(session: str) -> list[sse.Event]:
        async with talk.stream(session) as answer:
            return sse.EventReader().feed(await answer.aread())

    talk.world.gateway.handler = handler
    async with asyncio.TaskGroup() as tasks:
        streams = [tasks.create_task(whole(f"session {number}")) for number in range(64)]
    for stream in streams:
        assert _said(stream.result()) == ["Hello there."]
        assert stream.result()[-1].data == "[DONE]"
    kept = await talk.world.sessions.of_instance(talk.instance.id)
    assert {each.name for each in kept} == {f"session {number}" for number in range(64)}


async def test_whoever_leaves_ends_the_agents_run(talk: ChatStream) -> None:
    talk.world.gateway.handler = scripted.endless
    async with talk.stream() as answer:
        await anext(answer.aiter_raw())
    await eventually(talk.world.gateway.has_left.is_set, "the gateway is told")
