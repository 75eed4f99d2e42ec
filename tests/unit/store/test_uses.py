"""When a key was last used is never lost between a list and the file, and costs few writes."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import KeyId
from chowder_local.errors.process import DataDirUnusable
from chowder_local.store.keys import KeyQueries
from chowder_local.store.uses import KeyUses
from chowder_local.tasks import owned_tasks
from tests.scripted.serving import eventually
from tests.unit.store.conftest import NOW

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.domain import Organization
    from chowder_local.store.database import Database

KEY = KeyId("key-1")
LATER = NOW + timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("organization")


async def in_file(database: Database) -> datetime | None:
    """What a server that starts now would know."""
    key = await KeyQueries(database).get(KEY)
    assert key is not None
    return key.last_used_at


async def test_many_uses_are_one_write_of_the_last(database: Database) -> None:
    uses = KeyUses(database)
    for number in range(100):
        uses.note(KEY, NOW + timedelta(seconds=number))
    generation = database.generation
    await uses.write()
    assert database.generation == generation + 1
    assert await in_file(database) == NOW + timedelta(seconds=99)


async def test_what_nobody_uses_is_not_written(database: Database) -> None:
    uses = KeyUses(database)
    uses.note(KEY, NOW)
    await uses.write()
    generation = database.generation
    await uses.write()
    assert database.generation == generation


async def test_a_use_during_the_write_is_kept_for_the_next(database: Database) -> None:
    uses = KeyUses(database)
    uses.note(KEY, NOW)
    async with asyncio.TaskGroup() as tasks, database.writing():
        # It waits for us, and has taken what it will write.
        tasks.create_task(uses.write())
        await asyncio.sleep(0)
        uses.note(KEY, LATER)
    assert await in_file(database) == NOW
    key = await KeyQueries(database).get(KEY)
    assert key is not None
    assert uses.told(key).last_used_at == LATER
    await uses.write()
    assert await in_file(database) == LATER


async def test_a_use_of_a_key_that_is_gone_is_forgotten(database: Database) -> None:
    uses = KeyUses(database)
    uses.note(KeyId("gone"), NOW)
    uses.note(KEY, NOW)
    await uses.write()
    assert await in_file(database) == NOW


async def test_it_is_written_again_and_again(database: Database) -> None:
    uses = KeyUses(database, interval_s=0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(uses.run())
        for moment in (NOW, LATER):
            generation = database.generation
            uses.note(KEY, moment)
            await eventually(lambda: database.generation > generation, "it is written")  # noqa: B023
            assert await in_file(database) == moment


async def test_a_full_disk_puts_it_off(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uses = KeyUses(database)
    uses.note(KEY, NOW)

    def full() -> None:
        raise DataDirUnusable("The disk is full.")

    monkeypatch.setattr(database, "writing", full)
    with caplog.at_level(logging.WARNING):
        await uses.write()
    assert "The disk is full." in caplog.text
    monkeypatch.undo()
    await uses.write()
    assert await in_file(database) == NOW


async def test_the_file_alone_is_told_when_nothing_newer_is_known(
    database: Database, organization: Organization
) -> None:
    key = await KeyQueries(database).get(KEY)
    assert key is not None
    assert KeyUses(database).told(key) is key
