"""What model calls cost is counted at once, written seldom, and told in full."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceId, ModelProvider, Organization, OrganizationId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import owned_tasks
from chowder_local.store import usage
from chowder_local.store.sessions import SessionQueries
from chowder_local.store.usage import Counts, Kind, Span, UsagePart, UsageQueries
from tests.scripted.serving import eventually
from tests.unit.store.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

KIND = Kind(
    InstanceId("instance-1"),
    date(2026, 5, 4),
    "agent:main:main",
    ModelProvider.OPENAI,
    "gpt-4o",
    is_billed=True,
)
ONE = Counts(1, 0, 100, 50, 5, 2, 20)


@pytest.fixture
async def counted(
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


async def test_many_calls_are_one_write(counted: UsageQueries, writes: list[None]) -> None:
    for _ in range(100):
        counted.note(KIND, ONE)
    await counted.write()
    assert len(writes) == 1


async def test_what_nobody_uses_is_not_written(counted: UsageQueries, writes: list[None]) -> None:
    await counted.write()
    assert writes == []


async def test_a_later_write_is_added_and_a_new_server_knows(
    counted: UsageQueries, database: Database, organization: Organization
) -> None:
    counted.note(KIND, ONE)
    await counted.write()
    counted.note(KIND, ONE)
    await counted.write()
    (row,) = await UsageQueries(database).rows(organization.id, limit=9)
    assert (row.kind, row.counts) == (KIND, added(ONE, ONE))


async def test_what_is_not_written_yet_is_told(
    counted: UsageQueries, organization: Organization
) -> None:
    counted.note(KIND, ONE)
    (total,) = await counted.sums(organization.id)
    assert (total.model, total.is_billed, total.counts) == ("gpt-4o", True, ONE)
    counted.note(KIND, ONE)
    (row,) = await counted.rows(organization.id, limit=9)
    assert row.counts.calls == 2


async def test_sums_are_by_model_and_of_whom_is_asked_for(
    counted: UsageQueries, organization: Organization
) -> None:
    other = replace(KIND, instance_id=InstanceId("instance-2"), session_key="")
    offline = replace(KIND, is_billed=False)
    for kind in (KIND, other, offline):
        counted.note(kind, ONE)
    sums = {each.is_billed: each.counts.calls for each in await counted.sums(organization.id)}
    assert sums == {True: 2, False: 1}
    (one,) = await counted.sums(organization.id, InstanceId("instance-2"))
    assert one.counts.calls == 1
    assert await counted.sums(OrganizationId("another")) == []
    assert await counted.rows(OrganizationId("another"), limit=9) == []


async def test_rows_come_latest_day_first_and_no_more_than_wanted(
    counted: UsageQueries, organization: Organization
) -> None:
    days = [date(2026, 5, day) for day in (3, 5, 4)]
    for day in days:
        counted.note(replace(KIND, day=day), ONE)
    found = await counted.rows(organization.id, limit=2)
    assert [row.kind.day.day for row in found] == [5, 4]


async def test_a_named_conversation_is_told_by_its_name(
    counted: UsageQueries, database: Database, organization: Organization
) -> None:
    named = replace(KIND, session_key="agent:main:s-1")
    await SessionQueries(database).remember(KIND.instance_id, "a/b", named.session_key, NOW)
    # Another instance has one with the same key, of course.
    namesake = replace(named, instance_id=InstanceId("instance-2"))
    for kind in (KIND, named, namesake):
        counted.note(kind, ONE)
    found = await counted.rows(organization.id, limit=9)
    names = {(row.kind.instance_id, row.kind.session_key): row.session_name for row in found}
    assert names == {
        ("instance-1", "agent:main:main"): None,
        ("instance-1", "agent:main:s-1"): "a/b",
        ("instance-2", "agent:main:s-1"): None,
    }


async def test_an_agent_cannot_fill_the_disk_with_names(
    counted: UsageQueries, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "KINDS_MAX", 3)
    for number in range(9):
        counted.note(replace(KIND, model=f"m{number}"), ONE)
    counted.note(replace(KIND, model="m1"), ONE)
    rows = {
        (row.kind.session_key, row.kind.model): row.counts.calls
        for row in await counted.rows(organization.id, limit=99)
    }
    main = "agent:main:main"
    assert rows == {(main, "m0"): 1, (main, "m1"): 2, (main, "m2"): 1, ("", ""): 6}
    counted.note(replace(KIND, day=date(2026, 5, 5), model="m8"), ONE)
    assert (await counted.rows(organization.id, limit=1))[0].kind.model == "m8"


async def test_a_full_disk_loses_nothing(
    counted: UsageQueries,
    database: Database,
    organization: Organization,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(**_: object) -> None:
        raise DataDirUnusable("The disk is full.")

    counted.note(KIND, ONE)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(database, "writing", full)
        await counted.write()
    assert "put off" in caplog.text
    counted.note(KIND, ONE)
    (row,) = await counted.rows(organization.id, limit=9)
    assert row.counts.calls == 2


async def test_a_write_that_is_cancelled_loses_nothing(
    counted: UsageQueries, database: Database, organization: Organization
) -> None:
    counted.note(KIND, ONE)
    async with database.writing():
        waiting = asyncio.ensure_future(counted.write())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    (row,) = await counted.rows(organization.id, limit=9)
    assert row.counts.calls == 1


async def test_it_is_written_again_and_again(
    counted: UsageQueries, writes: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "WRITE_INTERVAL_S", 0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(counted.run())
        counted.note(KIND, ONE)
        await eventually(lambda: len(writes) == 1, "it is written")
        counted.note(KIND, ONE)
        await eventually(lambda: len(writes) == 2, "it is written once more")


async def test_some_days_are_summed_by_day_and_by_instance(
    counted: UsageQueries, organization: Organization
) -> None:
    for day in (3, 4, 5, 6):
        kind = replace(KIND, day=date(2026, 5, day))
        for each in (kind, replace(kind, session_key="other"), replace(kind, is_billed=False)):
            counted.note(each, ONE)
    second = InstanceId("instance-2")
    counted.note(replace(KIND, instance_id=second), ONE)
    span = Span(date(2026, 5, 4), date(2026, 5, 5))
    days, parts = await counted.over_time(organization.id, span)
    assert [(part.of, part.is_billed, part.counts.calls) for part in days] == [
        (date(2026, 5, 4), False, 1),
        (date(2026, 5, 4), True, 3),
        (date(2026, 5, 5), False, 1),
        (date(2026, 5, 5), True, 2),
    ]
    assert days[1] == UsagePart("gpt-4o", True, added(ONE, ONE, ONE), date(2026, 5, 4))
    assert [(part.of, part.counts.calls) for part in parts] == [
        (KIND.instance_id, 2), (KIND.instance_id, 4), (second, 1),
    ]  # fmt: skip
    (own,), (part,) = await counted.over_time(organization.id, span, second)
    assert own.counts == part.counts == ONE
    assert await counted.over_time(OrganizationId("another"), span) == ([], [])
