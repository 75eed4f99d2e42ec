"""The dashboard's stream on a real socket: lines as they change, once for all, and its end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceStatus, KeyId, SandboxUsage
from chowder_local.core.events import EventType
from chowder_local.core.fault_injection import Call, FaultDraft, FaultKind
from chowder_local.core.tasks import owned_tasks
from chowder_local.dashboard.streams import CHANGES_MAX
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.scripts.rules import ReplyScript
from chowder_local.upstream import sse
from tests.api.conftest import app_of
from tests.scripted.serving import eventually, loopback_client, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from tests.scripted.world import World


DEADLINE_S = 20.0


class Page:
    """One that looks at the overview."""

    def __init__(self, answer: httpx.Response) -> None:
        self.chunks = answer.aiter_raw()
        self.reader = sse.EventReader()
        self.waiting: list[sse.Event] = []

    async def next(self) -> sse.Event:
        """What is told next, comments left out."""
        while True:
            while not self.waiting:
                self.waiting = self.reader.feed(await anext(self.chunks))
            if (event := self.waiting.pop(0)).data is not None:
                return event

    async def until(self, words: str) -> str:
        """The first telling that has words in it."""
        async with asyncio.timeout(DEADLINE_S):
            while words not in (data := (await self.next()).data or ""):
                pass
        return data


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is signed in."""
    async with serve(app_of(world)) as url:
        session = await world.dashboard_sessions.begin(world.key)
        cookies = {world.dashboard_sessions.cookie: session}
        async with loopback_client(base_url=url, cookies=cookies, timeout=DEADLINE_S) as client:
            yield client


@asynccontextmanager
async def looking(
    client: httpx.AsyncClient, path: str = "/overview/live", **headers: str
) -> AsyncIterator[Page]:
    async with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        page = Page(answer)
        # Once it is heard, nothing is missed.
        await anext(page.chunks)
        yield page


async def test_a_new_instance_comes_and_its_line_changes(
    client: httpx.AsyncClient, world: World
) -> None:
    async with looking(client) as page:
        agent = await world.created(name="<b>Ada</b>")
        added = await page.until("afterbegin:#rows")
        assert "&lt;b&gt;Ada&lt;/b&gt;" in added
        assert "1</strong> all" in added
        await world.lifecycle.stop(world.organization_id, agent.id)
        changed = await page.until('data-status="stopped"')
        assert "afterbegin" not in changed
        assert "&lt;b&gt;Ada&lt;/b&gt; is stopped." in changed
        await world.lifecycle.delete(world.organization_id, agent.id)
        gone = await page.until('hx-swap-oob="delete"')
        assert f"instance-{agent.id}" in gone


async def test_others_see_nothing_of_it(client: httpx.AsyncClient, world: World) -> None:
    details, _ = await world.organizations.signup("Others")
    async with looking(client) as page:
        for each in (details.organization.id, world.organization_id):
            world.events.publish(
                EventType.INSTANCE_STATUS, each, (await world.placed(
                    InstanceStatus.STOPPED, 1 if each == world.organization_id else 2,
                    name="mine" if each == world.organization_id else "theirs",
                    organization_id=each,
                )).id, status="stopped", before=None, error_message=None,
            )  # fmt: skip
        assert "theirs" not in await page.until("mine")


async def test_what_leaves_the_list_by_its_status_goes_and_what_enters_it_comes(
    client: httpx.AsyncClient, world: World
) -> None:
    agent = await world.created()
    async with looking(client, "/overview/live?status=stopped") as page:
        await world.lifecycle.stop(world.organization_id, agent.id)
        assert "afterbegin:#rows" in await page.until('data-status="stopped"')
        await world.lifecycle.start(world.organization_id, agent.id)
        assert f"instance-{agent.id}" in await page.until('hx-swap-oob="delete"')


async def test_what_happened_since_the_page_was_made_is_told(
    client: httpx.AsyncClient, world: World
) -> None:
    before = world.events.last_id
    await world.created()
    async with looking(client, f"/overview/live?after={before}") as page:
        told = await page.next()
        assert "afterbegin:#rows" in (told.data or "")
    async with looking(client, "/overview/live", **{"Last-Event-ID": "another-life-1"}) as page:
        assert (await page.next()).name == "stale"


async def test_a_burst_is_one_hint_to_look_again(client: httpx.AsyncClient, world: World) -> None:
    async with looking(client) as page:
        for number in range(CHANGES_MAX + 1):
            world.events.publish(
                EventType.INSTANCE_STATUS,
                world.organization_id,
                (await world.placed(InstanceStatus.STOPPED, number)).id
                if number == 0
                else type(world.organization_id)(f"x{number}"),  # type: ignore[arg-type]  # an id
                status="stopped",
                before=None,
                error_message=None,
            )
        names = [(await page.next()).name]
        assert names == ["stale"]


async def test_agents_are_read_only_while_somebody_looks(
    client: httpx.AsyncClient, world: World
) -> None:
    agent = await world.created()
    world.engine.usages = {agent.sandbox_id: SandboxUsage(600_000_000, 2_000_000_000, 1.0, 1.0)}
    async with owned_tasks() as tasks:
        tasks.create_task(world.usage_samples.run())
        await asyncio.sleep(0)
        assert world.engine.made("usage") == 0
        async with looking(client) as page:
            told = await page.until("Memory 600 MB of 2.0 GB")
            assert f'id="memory-{agent.id}"' in told
        await eventually(lambda: not world.usage_samples.is_watched, "nobody looks")


async def test_the_stream_ends_with_the_session(client: httpx.AsyncClient, world: World) -> None:
    async with looking(client) as page:
        caller = await world.authentication.caller(world.key)
        await world.key_queries.revoke(KeyId(caller.key_id))
        world.events.publish(EventType.BOOT_ENDED, world.organization_id, (await world.placed(
            InstanceStatus.STOPPED)).id, outcome="ready", took_s=0.0)  # fmt: skip
        assert (await page.next()).name == "signed-out"
        with pytest.raises(StopAsyncIteration):
            await page.next()


async def test_the_stream_ends_with_the_server(client: httpx.AsyncClient, world: World) -> None:
    async with looking(client) as page:
        world.shutdown.begin()
        with pytest.raises(StopAsyncIteration):
            await page.next()


async def test_a_fault_that_is_used_is_told(client: httpx.AsyncClient, world: World) -> None:
    draft = FaultDraft(FaultKind.MESSAGE, times=3)
    fault = world.faults.add(world.organization_id, draft)
    async with looking(client, "/faults/live") as page:
        # What was set after the page was made, too.
        assert f"fault-{fault.id}" in await page.until("<span>3 ")
        world.faults.take(world.organization_id, Call({FaultKind.MESSAGE}))
        await page.until("<span>2 ")
        world.events.close()
        world.shutdown.begin()
        with pytest.raises(StopAsyncIteration):
            await page.next()


async def test_what_rules_have_come_to_is_told(client: httpx.AsyncClient, world: World) -> None:
    agent = await world.created()
    script = ReplyScript.model_validate({"replies": [{"name": "sun", "reply": "Sunny."}]})
    world.scripts.put(agent.id, script)
    async with looking(client, f"/replies/live?instance={agent.id}") as page:
        await page.until("sun")
        request = ModelRequest("openai", "gpt-4o", 1, "How is it?")
        await world.scripts.answer(world.organization_id, agent.id, request)
        world.call_log.begin(world.organization_id, agent.id, "openai", "responses", b"{}")
        told = await page.until("<span>1</span>")
        assert f'id="recording-{agent.id}"' in told


async def test_a_call_leaves_the_list_of_a_status_and_comes_into_another(
    client: httpx.AsyncClient, world: World
) -> None:
    agent = await world.created()
    async with (
        looking(client, "/model-calls/live?status=running") as running,
        looking(client, "/model-calls/live?status=failed") as failed,
    ):
        made = world.call_log.begin(world.organization_id, agent.id, "openai", "responses", b"{}")
        assert f"call-{made.id}" in await running.until("afterbegin:#rows")
        made.retry(429, 1.0)
        assert "2nd attempt" in await running.until("afterbegin:#rows")
        # What a sandbox or a provider writes may have half of a character.
        made.finish("refused", "Slow down.\ud83d")
        assert f"call-{made.id}" in await running.until('hx-swap-oob="delete"')
        assert "Slow down." in await failed.until("afterbegin:#rows")
