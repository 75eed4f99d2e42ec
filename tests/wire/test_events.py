"""`/local/events` on a real socket: as it happens, resumed, kept alive, and never piled up."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.app.application import api
from chowder_local.app.server import open_events
from chowder_local.core.domain import OrganizationId
from chowder_local.core.events import Events, EventType
from chowder_local.core.tasks import Shutdown
from chowder_local.http.listener import with_state
from chowder_local.upstream import sse
from tests.scripted.serving import eventually, loopback_client, no_lifespan, serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


DEADLINE_S = 20.0
STREAMS = "chowder_open_streams"
# More than what the sockets of both sides and the server's own buffers hold together.
FAR_TOO_MUCH_BYTES = 64 * 1024 * 1024


@dataclass
class Stream:
    """What comes of a stream of events, as it comes."""

    answer: httpx.Response
    reader: sse.EventReader = field(default_factory=sse.EventReader)
    waiting: list[sse.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chunks = self.answer.aiter_raw()

    async def next(self) -> sse.Event:
        """The next event, comments included."""
        while not self.waiting:
            self.waiting = self.reader.feed(await anext(self.chunks))
        return self.waiting.pop(0)

    async def next_data(self) -> dict[str, Any]:
        """The content of the next event that is no comment."""
        while (event := await self.next()).data is None:
            pass
        content: dict[str, Any] = json.loads(event.data)
        assert event.name == content["type"]
        return content

    async def to_its_end(self) -> None:
        """Reads what is left."""
        async for _ in self.chunks:
            pass


@dataclass
class Server:
    """A server, and how to follow its events."""

    world: World
    url: str

    @asynccontextmanager
    async def following(self, key: str | None = None, **headers: str) -> AsyncIterator[Stream]:
        """A stream that has begun."""
        carried = {"Authorization": f"Bearer {key or self.world.key}", **headers}
        async with (
            asyncio.timeout(DEADLINE_S),
            loopback_client(timeout=None, headers=carried) as client,
            client.stream("GET", f"{self.url}/local/events") as answer,
        ):
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            stream = Stream(answer)
            assert (await stream.next()).raw == b":\n\n"
            yield stream

    def open_streams(self) -> float:
        """How many streams are counted."""
        (sample,) = next(iter(self.world.metrics.open_streams.collect())).samples
        return sample.value

    async def left(self) -> None:
        """Waits until nobody follows, and no stream is counted."""
        await eventually(lambda: self.world.events.follower_count == 0, "nobody follows")
        await eventually(lambda: self.open_streams() == 0, "no stream is open")


@asynccontextmanager
async def serving(tmp_path: Path, events: Events | None = None) -> AsyncIterator[Server]:
    async with open_world(tmp_path, events=events) as world:
        state = world.state
        async with serve(with_state(api([], no_lifespan, world.metrics), state)) as url:
            yield Server(world, url)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as server:
        yield server


async def test_what_is_decided_is_told_as_it_happens(server: Server) -> None:
    async with server.following() as stream:
        instance = await server.world.created()
        told = [await stream.next_data() for _ in range(5)]
        assert [each["type"] for each in told] == [
            "instance.status", "boot.queued", "boot.begun", "boot.ended", "instance.status",
        ]  # fmt: skip
        assert {each["instance_id"] for each in told} == {instance.id}
        assert (told[-1]["before"], told[-1]["status"]) == ("provisioning", "running")
        assert server.open_streams() == 1
    await server.left()


async def test_a_client_that_comes_back_goes_on_where_it_was(server: Server) -> None:
    async with server.following() as stream:
        await server.world.created()
        ids = []
        for _ in range(5):
            event = await stream.next()
            ids.append(event.raw.split(b"\n")[0].removeprefix(b"id: ").decode())
    await server.left()
    instance = await server.world.created()
    async with server.following(**{"Last-Event-ID": ids[-1]}) as stream:
        told = [await stream.next_data() for _ in range(5)]
    assert {each["instance_id"] for each in told} == {instance.id}


async def test_another_organization_sees_what_is_nobodys_alone(server: Server) -> None:
    _, other_key = await server.world.organizations.signup("Others")
    async with server.following(other_key) as stream:
        await server.world.created()
        server.world.events.publish(EventType.ENGINE_LOST)
        assert (await stream.next_data())["type"] == "engine.lost"


async def test_a_quiet_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    async with serving(tmp_path, Events(quiet_s=0.01)) as server, server.following() as stream:
        for _ in range(3):
            assert (await stream.next()).raw == b":\n\n"


async def test_a_client_that_reads_nothing_is_dropped_and_the_others_are_not(
    tmp_path: Path,
) -> None:
    words = "x" * 64 * 1024
    async with serving(tmp_path, Events(capacity=20)) as server:
        events = server.world.events
        async with server.following() as slow, server.following() as quick:
            published = 0
            while events.follower_count == 2:
                assert published * len(words) < FAR_TOO_MUCH_BYTES, "it is still waited for"
                events.publish(EventType.WARM_SANDBOX_MADE, sandbox_id=words)
                published += 1
                await quick.next_data()
            assert server.open_streams() == 1
            with pytest.raises(httpx.RemoteProtocolError):
                await slow.to_its_end()
            events.publish(EventType.ENGINE_BACK)
            assert (await quick.next_data())["type"] == "engine.back"
        await server.left()


async def test_a_server_that_stops_ends_its_streams_in_good_order(server: Server) -> None:
    async with server.following() as stream:
        server.world.events.publish(EventType.ENGINE_LOST)
        server.world.events.close()
        assert (await stream.next_data())["type"] == "engine.lost"
        with pytest.raises(StopAsyncIteration):
            await stream.next()
    await server.left()


async def test_secrets_are_in_no_event(server: Server) -> None:
    world = server.world
    async with server.following() as stream:
        instance = await world.created(openclaw_config={"logging": {"file": "planted"}})
        raw = b"".join([(await stream.next()).raw for _ in range(5)])
    tokens = (
        world.secret_box.gateway_token(instance.sandbox_id),
        world.secret_box.relay_token(instance.sandbox_id),
    )
    for secret in (world.key, "sk-ant", "planted", *tokens):
        assert secret.encode() not in raw


async def test_a_stop_ends_who_follows() -> None:
    shutdown = Shutdown()
    async with AsyncExitStack() as stack:
        events = open_events(shutdown, stack)
        with events.follow(OrganizationId("o")) as follower:
            shutdown.begin()
            async with asyncio.timeout(DEADLINE_S):
                assert [each async for each in follower.batches()] == []
