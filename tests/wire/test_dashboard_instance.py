"""The streams of an instance's pages on a real socket: its log, and its snapshots."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.events import EventType
from chowder_local.dashboard.logs import KEPT
from tests.api.conftest import app_of
from tests.scripted.serving import eventually, loopback_client, serve
from tests.wire.test_dashboard import DEADLINE_S, Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from chowder_local.core.domain import Instance
    from tests.scripted.world import World


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is signed in."""
    async with serve(app_of(world)) as url:
        session = await world.dashboard_sessions.begin(world.key)
        cookies = {world.dashboard_sessions.cookie: session}
        async with loopback_client(base_url=url, cookies=cookies, timeout=DEADLINE_S) as client:
            yield client


@asynccontextmanager
async def looking(client: httpx.AsyncClient, path: str) -> AsyncIterator[Page]:
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        page = Page(answer)
        await anext(page.chunks)
        yield page


def of_log(agent: Instance) -> str:
    return f"/instances/{agent.id}/logs/live"


async def told(page: Page) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        event = await page.next()
    assert event.name == "log"
    content: dict[str, Any] = json.loads(event.data or "")
    return content


async def lines(page: Page, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += (await told(page))["lines"]
    return found


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_log_begins_with_its_last_lines_and_goes_on(
    client: httpx.AsyncClient, world: World, is_stopped: bool
) -> None:
    agent = await (world.stopped() if is_stopped else world.created())
    why = "The instance is stopped. Start it to see its log." if is_stopped else ""
    world.engine.log = "".join(f"line {number}\n" for number in range(KEPT + 5))
    world.engine.printed = asyncio.Queue()
    async with looking(client, of_log(agent)) as page:
        assert await lines(page, KEPT) == [f"line {number + 5}" for number in range(KEPT)]
        world.engine.printed.put_nowait(b"<script>\x1b[31mred\x1b[0m\x1b[0m</script>\nnot ")
        assert await lines(page, 1) == ["<script>red</script>"]
        world.engine.printed.put_nowait(b"yet\n")
        assert await told(page) == {
            "lines": ["not yet"], "left_out": 0, "is_new": False, "why": why,
            "status": agent.status,
        }  # fmt: skip


async def test_who_reads_slowly_misses_the_oldest_lines_and_is_told_so(
    client: httpx.AsyncClient, world: World
) -> None:
    agent = await world.created()
    world.engine.printed = asyncio.Queue()
    async with looking(client, of_log(agent)) as page:
        assert (await told(page))["is_new"]
        printed = "".join(f"{number}\n" for number in range(3 * KEPT))
        world.engine.printed.put_nowait(printed.encode())
        content = await told(page)
        assert content["left_out"] == 2 * KEPT
        assert content["lines"] == [f"{number}" for number in range(2 * KEPT, 3 * KEPT)]


async def test_a_log_that_ends_begins_anew_with_its_sandbox(
    client: httpx.AsyncClient, world: World
) -> None:
    agent = await world.created()
    world.engine.log = "one\n"
    async with looking(client, of_log(agent)) as page:
        content = await told(page)
        assert (content["lines"], content["is_new"]) == (["one"], True)
        assert content["why"].startswith("The log has ended")
        world.engine.log = "two\n"
        world.events.publish(
            EventType.SANDBOX_RECONCILED, agent.organization_id, agent.id, reason="exited"
        )
        content = await told(page)
        assert (content["lines"], content["is_new"]) == (["two"], True)
        world.engine.log = "three\n"
        world.events.publish(EventType.ENGINE_BACK)
        assert (await told(page))["lines"] == ["three"]


async def test_why_there_is_no_log_is_said_until_there_is_one(
    client: httpx.AsyncClient, world: World
) -> None:
    agent = await world.created()
    world.engine.failing["follow_log"] = EngineUnavailable("The engine is on holiday.")
    async with looking(client, of_log(agent)) as page:
        assert (await told(page))["why"] == "The log cannot be read: The engine is on holiday."
        del world.engine.failing["follow_log"]
        world.engine.log = "back\n"
        await world.lifecycle.stop(agent.organization_id, agent.id)
        content = await told(page)
        assert content["lines"] == ["back"]


async def test_what_others_do_with_snapshots_is_told(
    client: httpx.AsyncClient, world: World
) -> None:
    agent, other = await world.created(), await world.created(name="Bea")
    path = f"/instances/{agent.id}/snapshots/live"
    since = world.events.last_id
    async with looking(client, path) as page:
        await world.snapshots.take(other)
        snapshot = await world.snapshots.take(agent)
        async with asyncio.timeout(DEADLINE_S):
            assert (await page.next()).name == "changed"
            await world.snapshots.remove(agent.organization_id, snapshot.id)
            assert (await page.next()).name == "changed"
    # What happened since the page was made is told as well.
    async with looking(client, f"{path}?after={since}") as page, asyncio.timeout(DEADLINE_S):
        assert (await page.next()).name == "changed"


async def test_a_page_that_is_left_follows_no_log(client: httpx.AsyncClient, world: World) -> None:
    agent = await world.created()
    world.engine.printed = asyncio.Queue()
    async with looking(client, of_log(agent)) as page:
        await told(page)
        assert world.events.follower_count == 1
    await eventually(lambda: not world.events.follower_count, "nobody follows")
