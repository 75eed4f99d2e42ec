"""What agents say and send: bounded, numbered, and the same after a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import Instance, InstanceId, InstanceStatus, ModelProvider, SandboxId
from chowder_local.core.tasks import Shutdown
from chowder_local.store.agent_entries import AgentEntries
from chowder_local.store.tables import UnaskedMessageRow
from tests.unit.store.conftest import BOX, NOW

if TYPE_CHECKING:
    from chowder_local.core.domain import Organization
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

ID = InstanceId("instance-1")


@pytest.fixture
async def entries(
    database: Database, organization: Organization, instances: InstanceQueries
) -> AgentEntries:
    instance = Instance(
        id=ID,
        organization_id=organization.id,
        name="cook",
        status=InstanceStatus.RUNNING,
        model_provider=ModelProvider.OPENAI,
        sandbox_id=SandboxId("chowder-1"),
        created_at=NOW,
        updated_at=NOW,
    )
    await instances.add(instance, None)
    return AgentEntries(database, BOX, UnaskedMessageRow, Shutdown())


async def numbers(entries: AgentEntries, after: int = 0) -> tuple[list[int], int, bool]:
    page = await entries.read(ID, after)
    return [each.number for each in page.entries], page.last, page.is_incomplete


async def test_the_oldest_go_first_and_a_reader_is_told(entries: AgentEntries) -> None:
    entries.max_count = 3
    for number in range(5):
        await entries.add(ID, NOW, {"text": str(number)})
    assert await numbers(entries) == ([3, 4, 5], 5, True)
    assert await numbers(entries, 2) == ([3, 4, 5], 5, False)
    entries.max_bytes = 1000
    await entries.add(ID, NOW, {"text": "x" * 400})
    assert await numbers(entries, 5) == ([6], 6, False)
    assert (await numbers(entries, 2))[2]
    # One that is longer than all of them may be stays alone.
    await entries.add(ID, NOW, {"text": "x" * 4000})
    assert await numbers(entries) == ([7], 7, True)


async def test_no_number_is_used_again_after_all_are_removed(entries: AgentEntries) -> None:
    await entries.add(ID, NOW, {"text": "one"})
    await entries.add(ID, NOW, {"text": "two"})
    await entries.remove(ID)
    assert (await numbers(entries))[0] == []
    assert await entries.add(ID, NOW, {"text": "three"}) == 3
    again = AgentEntries(entries.database, BOX, UnaskedMessageRow, Shutdown())
    (entry,) = (await again.read(ID, 2)).entries
    assert (entry.number, entry.at, dict(entry.content)) == (3, NOW, {"text": "three"})


async def test_a_wait_ends_with_an_entry_or_with_the_server(entries: AgentEntries) -> None:
    waiting = asyncio.create_task(entries.read(ID, 0, wait_s=60))
    await entries.add(ID, NOW, {"text": "one"})
    assert len((await waiting).entries) == 1
    waiting = asyncio.create_task(entries.read(ID, 1, wait_s=60))
    await asyncio.sleep(0)
    entries.shutdown.begin()
    assert (await waiting).entries == []
