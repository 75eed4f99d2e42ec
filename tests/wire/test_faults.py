"""Faults on a real socket: streams that break off, and clients that leave during a delay."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.app.application import State, api
from chowder_local.core.domain import OrganizationId
from chowder_local.http.listener import bound_socket, listening, with_state
from tests.scripted.serving import eventually, loopback_client

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette

    from tests.scripted.world import World

ASKED: dict[str, Any] = {"model": "claude-sonnet-4-20250514", "input": "Hi", "stream": True}


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over the product's own connection class."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        yield world.state

    app = with_state(api([], lifespan, world.metrics), world.state)
    with bound_socket("127.0.0.1", 0) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        headers = {"Authorization": f"Bearer {world.key}"}
        async with (
            listening(app, bound),
            loopback_client(base_url=url, headers=headers, trust_env=False) as client,
        ):
            yield client


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(world) as client:
        yield client


async def set_fault(client: httpx.AsyncClient, **body: Any) -> None:
    answer = await client.post("/local/faults", json=body)
    assert answer.status_code == 201, answer.text


async def read(client: httpx.AsyncClient, instance_id: str) -> tuple[int, bytes, bool]:
    """An answer's status, its bytes, and whether it was complete."""
    content = b""
    path = f"/v1/instances/{instance_id}/responses"
    async with client.stream("POST", path, json=ASKED) as answer:
        try:
            async for chunk in answer.aiter_raw():
                content += chunk
        except httpx.RemoteProtocolError:
            return answer.status_code, content, False
    return answer.status_code, content, True


async def test_a_stream_fault_closes_the_connection_after_its_events(
    world: World, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await world.created()
    _, whole, is_whole = await read(client, instance.id)
    assert is_whole
    for count in (0, 1, 2, 4):
        await set_fault(client, kind="stream", after_events=count)
        status, content, is_whole = await read(client, instance.id)
        assert (count, status, is_whole) == (count, 200, False)
        assert content.count(b"\n\n") == count
        assert [kinds(content), content.endswith(b"\n\n") or not content] == [
            kinds(whole)[:count], True,
        ]  # fmt: skip
        # It is not logged as an error, and the next message succeeds.
        assert errors(caplog) == [], count
        assert (await read(client, instance.id))[2], count


def kinds(content: bytes) -> list[bytes]:
    return [line for line in content.split(b"\n") if line.startswith(b"event: ")]


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.levelname in {"ERROR", "CRITICAL"}]


async def test_a_stream_shorter_than_the_fault_ends_properly(
    world: World, client: httpx.AsyncClient
) -> None:
    instance = await world.created()
    await set_fault(client, kind="stream", after_events=1000)
    status, content, is_whole = await read(client, instance.id)
    assert (status, is_whole) == (200, True)
    assert content.endswith(b"data: [DONE]\n\n")
    assert not world.faults.are_set


async def test_a_stream_fault_ends_the_agents_run(world: World, client: httpx.AsyncClient) -> None:
    instance = await world.created()
    world.gateway.handler = endless
    await set_fault(client, kind="stream", after_events=1)
    assert not (await read(client, instance.id))[2]
    await eventually(world.gateway.has_left.is_set, "the gateway is left alone")


async def endless(_: Any, receive: Any, send: Any) -> None:
    """Begins an answer that ends only when the client disconnects."""
    head = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    event = b'data: {"type": "response.output_text.delta", "delta": "Hello"}\n\n'
    await send({"type": "http.response.body", "body": event, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_a_client_that_leaves_during_a_delay_has_sent_no_message(
    world: World, client: httpx.AsyncClient
) -> None:
    instance = await world.created()
    await set_fault(client, kind="message", delay_s=600)
    path = f"/v1/instances/{instance.id}/responses"
    with pytest.raises(httpx.ReadTimeout):
        await client.post(path, json=ASKED, timeout=httpx.Timeout(5.0, read=0.2))
    await eventually(
        lambda: not world.faults.of_organization(OrganizationId(world.organization_id)), "taken"
    )
    # The agent takes the next message, and never got the first.
    assert (await client.post(path, json=ASKED | {"stream": False})).status_code == 200
    assert len(world.gateway.messages) == 1
