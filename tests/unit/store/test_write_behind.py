"""Pending values are visible to readers, share writes, and survive failures."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import KeyId
from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.tasks import owned_tasks
from chowder_local.store import usage
from chowder_local.store.keys import KeyQueries
from tests.scripted.serving import eventually
from tests.unit.store.conftest import NOW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.store.database import Database
    from chowder_local.store.usage import WriteBehind

KEY = KeyId("key-1")
LATER = NOW + timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("organization")


@pytest.fixture
def uses(database: Database) -> WriteBehind[KeyId, datetime]:
    return KeyQueries(database).uses


async def in_file(database: Database) -> datetime | None:
    """The value in the database."""
    key = await KeyQueries(database).get(KEY)
    assert key is not None
    return key.last_used_at


async def test_many_uses_share_one_write_of_the_last(
    uses: WriteBehind[KeyId, datetime], database: Database, writes: list[None]
) -> None:
    for number in range(100):
        uses.pending[KEY] = NOW + timedelta(seconds=number)
    await uses.write()
    assert len(writes) == 1
    assert await in_file(database) == NOW + timedelta(seconds=99)


async def test_without_uses_nothing_is_written(
    uses: WriteBehind[KeyId, datetime], writes: list[None]
) -> None:
    uses.pending[KEY] = NOW
    await uses.write()
    await uses.write()
    assert len(writes) == 1


async def test_writing_uses_does_not_invalidate_caches(
    uses: WriteBehind[KeyId, datetime], database: Database
) -> None:
    generation = database.generation
    uses.pending[KEY] = NOW
    await uses.write()
    assert database.generation == generation


async def test_a_use_during_a_write_is_kept_for_the_next(
    uses: WriteBehind[KeyId, datetime], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = uses.save

    async def save_slowly(session: AsyncSession, values: Mapping[KeyId, datetime]) -> None:
        await save(session, values)
        uses.pending[KEY] = LATER

    monkeypatch.setattr(uses, "save", save_slowly)
    uses.pending[KEY] = NOW
    await uses.write()
    assert await in_file(database) == NOW
    assert uses.pending == {KEY: LATER}
    await uses.write()
    assert await in_file(database) == LATER


async def test_a_use_of_a_deleted_key_is_ignored(
    uses: WriteBehind[KeyId, datetime], database: Database
) -> None:
    uses.pending[KeyId("gone")] = NOW
    uses.pending[KEY] = NOW
    await uses.write()
    assert await in_file(database) == NOW


async def test_uses_are_written_repeatedly(
    uses: WriteBehind[KeyId, datetime],
    database: Database,
    writes: list[None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage, "WRITE_INTERVAL_S", 0.001)
    async with owned_tasks() as tasks:
        tasks.create_task(uses.run())
        for moment in (NOW, LATER):
            uses.pending[KEY] = moment
            await eventually(lambda: not uses.pending, "it is written")
            assert await in_file(database) == moment
    assert len(writes) == 2


async def test_a_full_disk_postpones_the_write(
    uses: WriteBehind[KeyId, datetime],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    uses.pending[KEY] = NOW

    def full(**_: bool) -> None:
        raise DataDirUnusable("The disk is full.")

    monkeypatch.setattr(database, "writing", full)
    with caplog.at_level(logging.WARNING):
        await uses.write()
    assert "The disk is full." in caplog.text
    monkeypatch.undo()
    await uses.write()
    assert await in_file(database) == NOW
