"""Named conversations keep the names they were given."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import Instance, InstanceId, InstanceStatus, ModelProvider, SandboxId
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.sessions import RememberedSession, SessionQueries

if TYPE_CHECKING:
    from chowder_local.domain import Organization
    from chowder_local.store.database import Database

INSTANCE = InstanceId("instance-1")


@pytest.fixture
async def now(database: Database, organization: Organization) -> datetime:
    instance = Instance(
        id=INSTANCE,
        organization_id=organization.id,
        name="cook",
        status=InstanceStatus.RUNNING,
        model_provider=ModelProvider.OPENAI,
        sandbox_id=SandboxId("chowder-1"),
        created_at=organization.created_at,
        updated_at=organization.created_at,
    )
    await InstanceQueries(database).add(instance, None)
    return organization.created_at


async def test_a_session_is_remembered_by_its_readable_name(
    database: Database, now: datetime
) -> None:
    sessions = SessionQueries(database)
    name = "cron:x / Ærø 🍲" * 30
    await sessions.remember(INSTANCE, name, "agent:main:s-1", now)
    assert await sessions.of_instance(INSTANCE) == [
        RememberedSession(INSTANCE, name, "agent:main:s-1", now, now)
    ]
    assert await sessions.of_instance(InstanceId("other")) == []


async def test_the_last_used_comes_first(database: Database, now: datetime) -> None:
    sessions = SessionQueries(database)
    for minutes, name in enumerate(["a", "b", "a"]):
        await sessions.remember(INSTANCE, name, f"key-{name}", now + timedelta(minutes=minutes))
    remembered = await sessions.of_instance(INSTANCE)
    assert [session.name for session in remembered] == ["a", "b"]
    assert remembered[0].created_at == now
    assert remembered[0].last_used_at == now + timedelta(minutes=2)


async def test_a_busy_session_is_written_once_a_minute(database: Database, now: datetime) -> None:
    sessions = SessionQueries(database)
    await sessions.remember(INSTANCE, "a", "key-a", now)
    written = database.generation
    await sessions.remember(INSTANCE, "a", "key-a", now + timedelta(seconds=59))
    assert database.generation == written
    await sessions.remember(INSTANCE, "a", "key-a", now + timedelta(seconds=60))
    assert database.generation == written + 1


async def test_racing_messages_remember_one_session(database: Database, now: datetime) -> None:
    sessions = SessionQueries(database)
    async with asyncio.TaskGroup() as tasks:
        for second in range(20):
            at = now + timedelta(seconds=second)
            tasks.create_task(sessions.remember(INSTANCE, "a", "key-a", at))
    assert len(await sessions.of_instance(INSTANCE)) == 1
