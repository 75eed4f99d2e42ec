"""When a thing was last used is never lost between a list and the file, and costs few writes."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlmodel import col, update

from chowder_local.core.domain import KeyId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import owned_tasks
from chowder_local.store.keys import KeyQueries
from chowder_local.store.last_used import WRITE_INTERVAL_S, LastUsed
from chowder_local.store.tables import ApiKeyRow
from tests.scripted.serving import eventually
from tests.unit.store.conftest import NOW

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Update

    from chowder_local.store.database import Database

KEY = KeyId("key-1")
LATER = NOW + timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("organization")


def key_uses(database: Database, interval_s: float = WRITE_INTERVAL_S) -> LastUsed[KeyId]:
    def written(key_id: KeyId, used_at: datetime) -> Update:
        return update(ApiKeyRow).where(col(ApiKeyRow.id) == key_id).values(last_used_at=used_at)

    return LastUsed(database, "keys", written, interval_s)


async def in_file(database: Database) -> datetime | None:
    """What a server that starts now would know."""
    key = await KeyQueries(database).get(KEY)
    assert key is not None
    return key.last_used_at


async def test_many_uses_are_one_write_of_the_last(database: Database, writes: list[None]) -> None:
    uses = key_uses(database)
    for number in range(100):
        uses.note(KEY, NOW + timedelta(seconds=number))
    await uses.write()
    assert len(writes) == 1
    assert await in_file(database) == NOW + timedelta(seconds=99)


async def test_what_nobody_uses_is_not_written(database: Database, writes: list[None]) -> None:
    uses = key_uses(database)
    uses.note(KEY, NOW)
    await uses.write()
    await uses.write()
    assert len(writes) == 1


async def test_writing_them_makes_nobody_ask_the_file_again(database: Database) -> None:
    uses, known = key_uses(database), database.generation
    uses.note(KEY, NOW)
    await uses.write()
    assert database.generation == known


async def test_a_use_during_the_write_is_kept_for_the_next(database: Database) -> None:
    uses = key_uses(database)
    uses.note(KEY, NOW)
    async with asyncio.TaskGroup() as tasks, database.writing():
        # It waits for us, and has taken what it will write.
        tasks.create_task(uses.write())
        await asyncio.sleep(0)
        uses.note(KEY, LATER)
    assert await in_file(database) == NOW
    assert uses.told(KEY, NOW) == LATER
    await uses.write()
    assert await in_file(database) == LATER


async def test_a_use_of_a_key_that_is_gone_is_forgotten(database: Database) -> None:
    uses = key_uses(database)
    uses.note(KeyId("gone"), NOW)
    uses.note(KEY, NOW)
    await uses.write()
    assert await in_file(database) == NOW


async def test_it_is_written_again_and_again(database: Database, writes: list[None]) -> None:
    uses = key_uses(database, interval_s=0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(uses.run())
        for moment in (NOW, LATER):
            uses.note(KEY, moment)
            await eventually(lambda: uses.told(KEY, None) is None, "it is written")
            assert await in_file(database) == moment
    assert len(writes) == 2


async def test_a_full_disk_puts_it_off(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uses = key_uses(database)
    uses.note(KEY, NOW)

    def full(**_: bool) -> None:
        raise DataDirUnusable("The disk is full.")

    monkeypatch.setattr(database, "writing", full)
    with caplog.at_level(logging.WARNING):
        await uses.write()
    assert "The disk is full." in caplog.text
    monkeypatch.undo()
    await uses.write()
    assert await in_file(database) == NOW


async def test_the_file_alone_is_told_when_nothing_newer_is_known(database: Database) -> None:
    assert key_uses(database).told(KEY, NOW) is NOW


async def test_the_loop_outlives_a_defect_in_one_round(database: Database) -> None:
    rounds = 0

    def written(_: KeyId, __: datetime) -> Update:
        nonlocal rounds
        rounds += 1
        raise RuntimeError("a defect")

    uses = LastUsed(database, "keys", written, interval_s=0.001)
    uses.note(KEY, NOW)
    async with owned_tasks() as group:
        group.create_task(uses.run())
        await eventually(lambda: rounds > 1, "a second round")
