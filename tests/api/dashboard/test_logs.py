"""The log page, and the events that make its stream read again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.events import CAPACITY, EventType
from chowder_local.dashboard.streams import watch_events
from tests.api.dashboard.conftest import NAVIGATING, Elements

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'
KIND = EventType.SANDBOX_RECONCILED


async def test_every_instance_has_a_log_page(visitor: Visitor) -> None:
    for number, status in enumerate(InstanceStatus):
        agent = await visitor.http.world.placed(status, number, name=HOSTILE)
        answer = await visitor.get(f"/instances/{agent.id}/logs")
        assert answer.status_code == 200, status
        elements = Elements(answer.text)
        assert elements.all("div", id="log"), status
        assert all("src" in each for each in elements.all("script")), status
        assert not [each for _, each in elements.tags if "onerror" in each], status


@pytest.mark.parametrize("path", ["logs/live", "snapshots/live", "unasked/live", "messengers/live"])
async def test_head_of_a_stream_has_its_media_type(visitor: Visitor, path: str) -> None:
    agent = await visitor.http.world.created()
    answer = await visitor.http.client.head(f"/instances/{agent.id}/{path}", headers=NAVIGATING)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")


async def test_only_events_of_the_instance_or_of_none_notify(visitor: Visitor) -> None:
    world, events = visitor.http.world, visitor.http.world.events
    agent = await world.created()
    noticed = asyncio.Queue[None]()
    request = Request({
        "type": "http",
        "state": {
            **world.state,
            "caller": await world.authentication.caller(world.key),
        },
    })  # fmt: skip

    async def publish(instance_id: InstanceId | None, kind: EventType = KIND) -> None:
        events.publish(kind, agent.organization_id, instance_id)
        # Until the follower has received it.
        for _ in range(10):
            await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        watching = group.create_task(
            watch_events(request, {KIND}, lambda: noticed.put_nowait(None), instance_id=agent.id)
        )
        await publish(InstanceId("another"))
        await publish(agent.id, EventType.BOOT_QUEUED)
        assert noticed.empty()
        await publish(agent.id)
        await publish(None)
        await noticed.get()
        await noticed.get()
        # More events than are kept, all of another instance: the lost ones may be its own.
        for _ in range(2 * CAPACITY):
            events.publish(KIND, agent.organization_id, InstanceId("another"))
        await noticed.get()
        watching.cancel()
