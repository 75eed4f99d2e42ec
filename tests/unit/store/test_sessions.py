"""Sessions: names, last uses, and shared writes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.store.sessions import NamedSession, SessionQueries

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, Organization
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

INSTANCE = InstanceId("instance-1")


@pytest.fixture
async def now(
    organization: Organization, instances: InstanceQueries, make: Callable[..., Instance]
) -> datetime:
    await instances.add(make(1), None)
    return organization.created_at


async def test_a_session_is_stored_with_its_name(database: Database, now: datetime) -> None:
    sessions = SessionQueries(database)
    name = "cron:x / Ærø 🍲" * 30
    await sessions.remember(INSTANCE, name, "agent:main:s-1", now)
    assert await sessions.of_instance(INSTANCE) == [
        NamedSession(INSTANCE, name, "agent:main:s-1", now, now)
    ]
    assert await sessions.of_instance(InstanceId("other")) == []


async def test_the_last_used_session_is_first(database: Database, now: datetime) -> None:
    sessions = SessionQueries(database)
    for minutes, name in enumerate(["a", "b", "a"]):
        await sessions.remember(INSTANCE, name, f"key-{name}", now + timedelta(minutes=minutes))
    remembered = await sessions.of_instance(INSTANCE)
    assert [session.name for session in remembered] == ["a", "b"]
    assert remembered[0].created_at == now
    assert remembered[0].last_used_at == now + timedelta(minutes=2)


async def test_a_used_session_is_not_written_for_every_message(
    database: Database, now: datetime, writes: list[None]
) -> None:
    sessions = SessionQueries(database)
    for minutes in range(3):
        await sessions.remember(INSTANCE, "a", "key-a", now + timedelta(minutes=minutes))
    assert len(writes) == 1
    await sessions.uses.write()
    assert len(writes) == 2
    (kept,) = await SessionQueries(database).of_instance(INSTANCE)
    assert (kept.created_at, kept.last_used_at) == (now, now + timedelta(minutes=2))


async def test_the_name_of_a_new_session_is_written_before_its_message_continues(
    database: Database, now: datetime
) -> None:
    await SessionQueries(database).remember(INSTANCE, "a", "key-a", now)
    (kept,) = await SessionQueries(database).of_instance(INSTANCE)
    assert kept.name == "a"


async def test_a_replaced_session_is_new_for_its_next_message(
    database: Database, now: datetime
) -> None:
    sessions = SessionQueries(database)
    await sessions.remember(INSTANCE, "a", "key-a", now)
    await sessions.replace(INSTANCE, [NamedSession(INSTANCE, "b", "key-b", now, now)])
    await sessions.remember(INSTANCE, "a", "key-a", now)
    kept = await SessionQueries(database).of_instance(INSTANCE)
    assert sorted(each.name for each in kept) == ["a", "b"]


async def test_a_restart_keeps_the_creation_time_of_a_session(
    database: Database, now: datetime
) -> None:
    # At the second start, the clock has been set back.
    for minutes, latest in ((5, 5), (0, 5), (9, 9)):
        at = now + timedelta(minutes=minutes)
        await SessionQueries(database).remember(INSTANCE, "a", "key-a", at)
        (kept,) = await SessionQueries(database).of_instance(INSTANCE)
        assert kept.created_at == now + timedelta(minutes=5)
        assert kept.last_used_at == now + timedelta(minutes=latest)


async def test_sessions_that_open_concurrently_share_writes(
    database: Database, now: datetime, writes: list[None]
) -> None:
    sessions = SessionQueries(database)
    async with asyncio.TaskGroup() as tasks:
        for number in range(64):
            tasks.create_task(sessions.remember(INSTANCE, f"{number}", f"key-{number}", now))
    assert len(await SessionQueries(database).of_instance(INSTANCE)) == 64
    assert len(writes) == 2


async def test_a_session_that_cannot_be_stored_fails_only_its_own_message(
    database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = SessionQueries(database)

    def full(**_: bool) -> None:
        raise DataDirUnusable("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(database, "writing", full)
        with pytest.raises(DataDirUnusable):
            await sessions.remember(INSTANCE, "a", "key-a", now)
    await sessions.remember(INSTANCE, "b", "key-b", now)
    assert [each.name for each in await sessions.of_instance(INSTANCE)] == ["b"]
    await sessions.remember(INSTANCE, "a", "key-a", now)
    assert [each.name for each in await sessions.of_instance(INSTANCE)] == ["a", "b"]


async def test_a_session_that_the_cache_dropped_is_written_again(
    database: Database, now: datetime, writes: list[None]
) -> None:
    sessions = SessionQueries(database, capacity=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        await sessions.remember(INSTANCE, name, f"key-{name}", now)
    # Only the second "b": "a" was used later, and "c" once.
    assert len(writes) == 4
    assert len(await sessions.of_instance(INSTANCE)) == 3


async def test_a_new_session_does_not_invalidate_caches(database: Database, now: datetime) -> None:
    generation = database.generation
    sessions = SessionQueries(database)
    await sessions.remember(INSTANCE, "a", "key-a", now)
    await sessions.remember(INSTANCE, "a", "key-a", now)
    await sessions.uses.write()
    assert database.generation == generation


async def test_racing_messages_store_one_session(database: Database, now: datetime) -> None:
    sessions = SessionQueries(database)
    async with asyncio.TaskGroup() as tasks:
        for second in range(20):
            at = now + timedelta(seconds=second)
            tasks.create_task(sessions.remember(INSTANCE, "a", "key-a", at))
    assert len(await sessions.of_instance(INSTANCE)) == 1
