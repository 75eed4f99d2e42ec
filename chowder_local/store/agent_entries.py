"""What agents say and send by themselves: the latest of each instance, numbered from 1."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlmodel import col, delete, insert, select, update

from chowder_local.core.events import ChangeSignal
from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import EncryptedJson, encrypt_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from chowder_local.core.domain import InstanceId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.core.tasks import Shutdown
    from chowder_local.store.database import Database
    from chowder_local.store.tables import EntryRow

MAX_COUNT = 1000
MAX_BYTES = 8 * 1024 * 1024
"""The limits for each instance, beyond which its oldest entries are removed."""
PAGE_SIZE = 100


@dataclass(frozen=True)
class Entry:
    """An entry; its number is unique within its instance, and never used again."""

    number: int
    at: datetime
    content: Mapping[str, Any]


@dataclass(frozen=True)
class EntryPage:
    """The entries after a number, oldest first; `last` is the number after which to go on."""

    entries: Sequence[Entry]
    last: int
    is_incomplete: bool
    """Whether there were others after that number, which are not kept any more."""


@dataclass(eq=False, repr=False)
class AgentEntries:
    """The entries of one table, which are encrypted because they contain conversations."""

    database: Database
    secret_box: SecretBox
    table: type[EntryRow]
    shutdown: Shutdown
    max_bytes: int = MAX_BYTES
    max_count: int = MAX_COUNT

    def __post_init__(self) -> None:
        self._changes = ChangeSignal()

    async def add(self, instance_id: InstanceId, at: datetime, content: Mapping[str, Any]) -> int:
        """Stores an entry and returns its number. It is on disk when this returns."""
        ciphertext = await asyncio.to_thread(encrypt_json, content, self.secret_box)
        table = self.table
        is_of_instance = col(table.instance_id) == instance_id
        below = func.sum(col(table.size_bytes)).over(order_by=col(table.number).desc())
        sizes = select(col(table.number), below.label("total")).where(is_of_instance).subquery()
        too_old = select(func.max(sizes.c.number)).where(sizes.c.total > self.max_bytes)
        async with self.database.writing(invalidates_caches=False) as session:
            last = await session.exec(select(func.max(col(table.number))).where(is_of_instance))
            number = (last.one() or 0) + 1
            row = {
                "instance_id": instance_id,
                "number": number,
                "at": at,
                "size_bytes": len(ciphertext),
                "content_ciphertext": ciphertext,
            }
            await session.exec(insert(table), params=[row])
            oldest = func.max(number - self.max_count, func.coalesce(too_old.scalar_subquery(), 0))
            await session.exec(
                delete(table).where(
                    is_of_instance, col(table.number) <= oldest, col(table.number) < number
                )
            )
            await erase_deleted(session, {instance_id}, [table])
        self._changes.notify()
        return number

    async def read(
        self,
        instance_id: InstanceId,
        after: int,
        *,
        wait_s: float = 0.0,
        limit: int = PAGE_SIZE,
        matches: Callable[[Entry], bool] = lambda _: True,
    ) -> EntryPage:
        """The first entries after a number that match; waits until there is one, or for `wait_s`.

        A wait ends with the server, too.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        with self._changes.watching() as changed, self.shutdown.on_shutdown(changed.set):
            while True:
                changed.clear()
                page = await self._page(instance_id, after, limit, matches)
                if page.entries or self.shutdown.has_begun or loop.time() >= until_s:
                    return page
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until_s):
                        await changed.wait()

    async def latest(self, instance_id: InstanceId, limit: int = PAGE_SIZE) -> list[Entry]:
        """The latest entries, the latest first."""
        table = self.table
        async with self.database.reading() as session:
            rows = await session.exec(
                select(table)
                .where(col(table.instance_id) == instance_id)
                .order_by(col(table.number).desc())
                .limit(limit)
            )
            entries = [self._entry(each.model_dump()) for each in rows]
        return await asyncio.to_thread(_matching, entries, lambda _: True)

    async def _page(
        self, instance_id: InstanceId, after: int, limit: int, matches: Callable[[Entry], bool]
    ) -> EntryPage:
        table = self.table
        is_of_instance = col(table.instance_id) == instance_id
        found: list[Entry] = []
        last = after
        async with self.database.reading() as session:
            oldest = await session.exec(select(func.min(col(table.number))).where(is_of_instance))
            is_incomplete = (oldest.one() or 0) > after + 1
            while len(found) < limit:
                rows = await session.exec(
                    select(table)
                    .where(is_of_instance, col(table.number) > last)
                    .order_by(col(table.number))
                    .limit(PAGE_SIZE)
                )
                page = [self._entry(each.model_dump()) for each in rows]
                if not page:
                    break
                matching = await asyncio.to_thread(_matching, page, matches)
                found += matching[: limit - len(found)]
                last = found[-1].number if len(found) == limit else page[-1].number
        return EntryPage(found, last, is_incomplete)

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        name = f"{self.table.__tablename__} {row['number']} of instance {row['instance_id']}"
        content = EncryptedJson(row["content_ciphertext"], self.secret_box, name)
        return Entry(row["number"], row["at"], content)

    async def remove(self, instance_id: InstanceId) -> None:
        """Removes all entries of an instance; later ones get other numbers."""
        table = self.table
        is_of_instance = col(table.instance_id) == instance_id
        last = select(func.max(col(table.number))).where(is_of_instance).scalar_subquery()
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(delete(table).where(is_of_instance, col(table.number) < last))
            # The last number stays, so that the next one is greater.
            empty = encrypt_json({}, self.secret_box)
            await session.exec(
                update(table).where(is_of_instance).values(content_ciphertext=empty, size_bytes=0)
            )


def _matching(entries: Sequence[Entry], matches: Callable[[Entry], bool]) -> list[Entry]:
    """Those that match and are not removed; decrypts them."""
    return [each for each in entries if each.content and matches(each)]
