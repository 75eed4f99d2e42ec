"""Usage is usage_queries at once, written seldom, and complete in every read."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceId, ModelProvider, Organization
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import owned_tasks
from chowder_local.store import usage
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.usage import Counts, UsageKey, UsageQueries
from tests.scripted.serving import eventually
from tests.unit.store.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

KEY = UsageKey(
    InstanceId("instance-1"),
    date(2026, 5, 4),
    "agent:main:main",
    ModelProvider.OPENAI,
    "gpt-4o",
    is_billed=True,
)
ONE = Counts(1, 0, 100, 50, 5, 2, 20)


@pytest.fixture
async def usage_queries(
    database: Database, instances: InstanceQueries, make: Callable[..., Instance]
) -> UsageQueries:
    for number in (1, 2):
        await instances.add(make(number), limit=None)
    return UsageQueries(database)


def added(*counts: Counts) -> Counts:
    total = Counts()
    for each in counts:
        total.add(each)
    return total


async def test_many_calls_share_one_write(usage_queries: UsageQueries, writes: list[None]) -> None:
    for _ in range(100):
        usage_queries.note(KEY, ONE)
    await usage_queries.write()
    assert len(writes) == 1


async def test_without_calls_nothing_is_written(
    usage_queries: UsageQueries, writes: list[None]
) -> None:
    await usage_queries.write()
    assert writes == []


async def test_a_later_write_is_added_and_survives_a_restart(
    usage_queries: UsageQueries, database: Database, organization: Organization
) -> None:
    usage_queries.note(KEY, ONE)
    await usage_queries.write()
    usage_queries.note(KEY, ONE)
    await usage_queries.write()
    (row,) = await UsageQueries(database).rows(organization.id, limit=9)
    assert (row.key, row.counts) == (KEY, added(ONE, ONE))


async def test_counts_that_are_not_written_yet_are_read(
    usage_queries: UsageQueries, organization: Organization
) -> None:
    usage_queries.note(KEY, ONE)
    (total,) = await usage_queries.sums(organization.id)
    assert (total.model, total.is_billed, total.counts) == ("gpt-4o", True, ONE)
    usage_queries.note(KEY, ONE)
    (row,) = await usage_queries.rows(organization.id, limit=9)
    assert row.counts.calls == 2


async def test_rows_are_latest_day_first_and_limited(
    usage_queries: UsageQueries, organization: Organization
) -> None:
    days = [date(2026, 5, day) for day in (3, 5, 4)]
    for day in days:
        usage_queries.note(replace(KEY, day=day), ONE)
    rows = await usage_queries.rows(organization.id, limit=2)
    assert [row.key.day.day for row in rows] == [5, 4]


async def test_a_named_session_has_its_name(
    usage_queries: UsageQueries, database: Database, organization: Organization
) -> None:
    named = replace(KEY, session_key="agent:main:s-1")
    await SessionQueries(database).remember(KEY.instance_id, "a/b", named.session_key, NOW)
    # Another instance may have a session with the same key.
    namesake = replace(named, instance_id=InstanceId("instance-2"))
    for kind in (KEY, named, namesake):
        usage_queries.note(kind, ONE)
    rows = await usage_queries.rows(organization.id, limit=9)
    names = {(row.key.instance_id, row.key.session_key): row.session_name for row in rows}
    assert names == {
        ("instance-1", "agent:main:main"): None,
        ("instance-1", "agent:main:s-1"): "a/b",
        ("instance-2", "agent:main:s-1"): None,
    }


async def test_an_agent_cannot_fill_the_disk_with_names(
    usage_queries: UsageQueries, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MAX_KEYS_PER_DAY", 3)
    for number in range(9):
        usage_queries.note(replace(KEY, model=f"m{number}"), ONE)
    usage_queries.note(replace(KEY, model="m1"), ONE)
    rows = {
        (row.key.session_key, row.key.model): row.counts.calls
        for row in await usage_queries.rows(organization.id, limit=99)
    }
    main = "agent:main:main"
    assert rows == {(main, "m0"): 1, (main, "m1"): 2, (main, "m2"): 1, ("", ""): 6}
    usage_queries.note(replace(KEY, day=date(2026, 5, 5), model="m8"), ONE)
    assert (await usage_queries.rows(organization.id, limit=1))[0].key.model == "m8"


async def test_a_full_disk_loses_nothing(
    usage_queries: UsageQueries,
    database: Database,
    organization: Organization,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(**_: object) -> None:
        raise DataDirUnusable("The disk is full.")

    usage_queries.note(KEY, ONE)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(database, "writing", full)
        await usage_queries.write()
    assert "postponed" in caplog.text
    usage_queries.note(KEY, ONE)
    (row,) = await usage_queries.rows(organization.id, limit=9)
    assert row.counts.calls == 2


async def test_a_write_that_is_cancelled_loses_nothing(
    usage_queries: UsageQueries, database: Database, organization: Organization
) -> None:
    usage_queries.note(KEY, ONE)
    async with database.writing():
        waiting = asyncio.ensure_future(usage_queries.write())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    (row,) = await usage_queries.rows(organization.id, limit=9)
    assert row.counts.calls == 1


async def test_counts_are_written_repeatedly(
    usage_queries: UsageQueries, writes: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "WRITE_INTERVAL_S", 0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(usage_queries.run())
        usage_queries.note(KEY, ONE)
        await eventually(lambda: len(writes) == 1, "it is written")
        usage_queries.note(KEY, ONE)
        await eventually(lambda: len(writes) == 2, "it is written once more")
