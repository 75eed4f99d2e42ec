"""The history of conversations: digests of what was said and answered.

Every message needs one, so the histories used last are kept in memory; what is new is written a
moment after the answer, which waits for no disk.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

from cachetools import LRUCache
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, delete, select

from chowder_local.core.domain import InstanceId, InstanceStatus
from chowder_local.core.tasks import contained
from chowder_local.store.tables import ConversationHistoryRow, IdempotentAnswerRow, InstanceRow
from chowder_local.store.write_behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Delete
    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.store.database import Database

MOST_ITEMS = 2000
"""Of a conversation; older ones are forgotten, and would be context again."""
CAPACITY = 1000
"""Histories in memory, of up to 0.2 MB each."""
DIGEST_BYTES = 16
RETRY_INTERVAL_S = 10.0

Identity = tuple[InstanceId, str]


class ItemStatus(StrEnum):
    """What became of the message that an item came with; the first letter is what is stored."""

    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"


_BY_LETTER = {each.value[0]: each for each in ItemStatus}


class KnownItem(NamedTuple):
    """An item of a conversation by its digest."""

    digest: bytes
    status: ItemStatus = ItemStatus.ANSWERED


@dataclass(frozen=True)
class ConversationHistory:
    """The items of a conversation, oldest first.

    `openclaw_session_id` is OpenClaw's own id of what it remembers: if that is another one now,
    the agent has forgotten them.
    """

    openclaw_session_id: str | None = None
    items: tuple[KnownItem, ...] = ()

    @property
    def answered(self) -> tuple[KnownItem, ...]:
        """The items up to the latest answer."""
        return self.items[: self._end]

    @property
    def unanswered(self) -> tuple[KnownItem, ...]:
        """The items of the latest messages, as far as they got no answer."""
        return self.items[self._end :]

    @property
    def _end(self) -> int:
        end = len(self.items)
        while end and self.items[end - 1].status is not ItemStatus.ANSWERED:
            end -= 1
        return end

    def packed(self) -> bytes:
        """The latest items for a column; `unpacked` is the way back."""
        latest = self.items[-MOST_ITEMS:]
        return b"".join(each.status.value[0].encode() + each.digest for each in latest)

    def to_json(self) -> dict[str, str | None]:
        """The history for an archive; `from_json` is the way back."""
        return {
            "openclaw_session_id": self.openclaw_session_id,
            "items": base64.b64encode(self.packed()).decode(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, str | None]) -> Self:
        """A history from an archive. Raises ValueError for anything else."""
        packed = base64.b64decode(content["items"] or "", validate=True)
        return cls.unpacked(content["openclaw_session_id"], packed)

    @classmethod
    def unpacked(cls, openclaw_session_id: str | None, packed: bytes) -> Self:
        """A history from a column. Raises ValueError for anything else."""
        if len(packed) % (size := DIGEST_BYTES + 1):
            raise ValueError("cut off in the middle of an item")
        entries = [packed[at : at + size] for at in range(0, len(packed), size)]
        try:
            items = [KnownItem(each[1:], _BY_LETTER[chr(each[0])]) for each in entries]
        except KeyError as unknown:
            raise ValueError(f"no status {unknown}") from None
        return cls(openclaw_session_id, tuple(items))


async def forget_histories(session: AsyncSession, instance_id: InstanceId) -> None:
    """Forgets an instance's histories and kept answers, in a transaction."""
    is_history = col(ConversationHistoryRow.instance_id) == instance_id
    await session.exec(delete(ConversationHistoryRow).where(is_history))
    is_answer = col(IdempotentAnswerRow.instance_id) == instance_id
    await session.exec(delete(IdempotentAnswerRow).where(is_answer))


class ConversationHistoryQueries:
    """Histories by instance and OpenClaw's key of the conversation."""

    def __init__(self, database: Database, capacity: int = CAPACITY) -> None:
        self._database = database
        self._known = LRUCache[Identity, ConversationHistory](capacity)
        self._unwritten = WriteBehind[Identity, ConversationHistory](
            database, "writing the history of conversations", _save
        )
        self._is_new = asyncio.Event()

    async def get(self, instance_id: InstanceId, session_key: str) -> ConversationHistory:
        """A conversation's history; that of a new one is empty."""
        identity = (instance_id, session_key)
        if (known := self._now(identity)) is not None:
            return known
        found = await self._of(instance_id, session_key)
        # It may have been put meanwhile.
        known = self._now(identity) or found.get(session_key, ConversationHistory())
        self._known[identity] = known
        return known

    def latest(self, instance_id: InstanceId, session_key: str) -> ConversationHistory:
        """What is known of a conversation, without reading the file."""
        return self._now((instance_id, session_key)) or ConversationHistory()

    def put(self, instance_id: InstanceId, session_key: str, history: ConversationHistory) -> None:
        """Keeps a history as it is now; it is on the disk a moment later."""
        identity = (instance_id, session_key)
        self._known[identity] = history
        self._unwritten.pending[identity] = history
        self._is_new.set()

    async def of_instance(self, instance_id: InstanceId) -> dict[str, ConversationHistory]:
        """All of an instance's histories, by OpenClaw's keys."""
        found = await self._of(instance_id)
        return found | {
            key: history
            for (each, key), history in self._unwritten.pending.items()
            if each == instance_id
        }

    async def replace(
        self, instance_id: InstanceId, histories: Mapping[str, ConversationHistory]
    ) -> None:
        """Lets an instance have these and no others."""
        async with self._database.writing(invalidates_caches=False) as session:
            for known in (self._unwritten.pending, self._known):
                for identity in [each for each in known if each[0] == instance_id]:
                    del known[identity]
            await forget_histories(session, instance_id)
            if histories:
                rows = [_row((instance_id, key), each) for key, each in histories.items()]
                await session.exec(_KEPT, params=rows)

    async def run(self) -> None:
        """Writes what is new, until cancelled."""
        while True:
            await self._is_new.wait()
            self._is_new.clear()
            with contained("writing the history of conversations"):
                await self.write()
            if self._unwritten.pending and not self._is_new.is_set():
                await asyncio.sleep(RETRY_INTERVAL_S)
                self._is_new.set()

    async def write(self) -> None:
        """Writes all that is new."""
        await self._unwritten.write()

    def _now(self, identity: Identity) -> ConversationHistory | None:
        known = self._unwritten.pending.get(identity) or self._known.get(identity)
        if known is not None:
            self._known[identity] = known
        return known

    async def _of(
        self, instance_id: InstanceId, session_key: str | None = None
    ) -> dict[str, ConversationHistory]:
        wanted = select(
            ConversationHistoryRow.session_key,
            ConversationHistoryRow.openclaw_session_id,
            ConversationHistoryRow.items,
        ).where(ConversationHistoryRow.instance_id == instance_id)
        if session_key is not None:
            wanted = wanted.where(ConversationHistoryRow.session_key == session_key)
        async with self._database.reading() as session:
            rows = await session.exec(wanted)
            return {
                key: ConversationHistory.unpacked(session_id, items)
                for key, session_id, items in rows
            }


_NEW = insert(ConversationHistoryRow)
_KEPT = _NEW.on_conflict_do_update(
    index_elements=["instance_id", "session_key"],
    set_={
        "openclaw_session_id": _NEW.excluded.openclaw_session_id,
        "items": _NEW.excluded["items"],
    },
)


async def _save(session: AsyncSession, histories: Mapping[Identity, ConversationHistory]) -> None:
    await session.exec(_KEPT, params=[_row(*each) for each in histories.items()])
    # One that was deleted while it answered must not leave anything.
    await session.exec(_of_deleted({each for each, _ in histories}))


def _of_deleted(instance_ids: set[InstanceId]) -> Delete:
    are_written = col(InstanceRow.id).in_(instance_ids)
    is_deleted = InstanceRow.status == InstanceStatus.TERMINATED.value
    return delete(ConversationHistoryRow).where(
        col(ConversationHistoryRow.instance_id).in_(
            select(InstanceRow.id).where(are_written, is_deleted)
        )
    )


def _row(identity: Identity, history: ConversationHistory) -> dict[str, object]:
    instance_id, session_key = identity
    return {
        "instance_id": instance_id,
        "session_key": session_key,
        "openclaw_session_id": history.openclaw_session_id,
        "items": history.packed(),
    }
