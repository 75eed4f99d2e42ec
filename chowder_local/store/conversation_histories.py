"""Conversation histories: digests of the items of each session, and texts that a machine has alone.

Every message needs one, so recently used histories are kept in memory, and changes are written a
moment after the answer.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from cachetools import LRUCache
from cryptography.fernet import InvalidToken
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, delete, select, update

from chowder_local.core.domain import InstanceId
from chowder_local.core.tasks import logging_errors
from chowder_local.store.database import in_pages
from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import (
    METADATA,
    ConversationHistoryRow,
    IdempotentAnswerRow,
    UnsavedTurnRow,
)
from chowder_local.store.usage import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database

MAX_ITEMS = 2000
"""The most items of a history. Older ones are dropped, and are new if a client resends them."""
CAPACITY = 1000
"""The number of histories in memory, of up to 0.2 MB each."""
DIGEST_BYTES = 16
MAX_TURN_CHARS = 32 * 1024
"""The texts of a longer turn are not kept."""
MAX_UNSAVED_TURNS = 1000
"""The most turns of an instance; older ones are dropped."""
RETRY_INTERVAL_S = 10.0

Identity = tuple[InstanceId, str]


class ItemStatus(StrEnum):
    """The result of the message that had an item. The store has the first letter."""

    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"


_BY_LETTER = {each.value[0]: each for each in ItemStatus}


class HistoryItem(NamedTuple):
    """The digest of an item of a conversation, and its status."""

    digest: bytes
    status: ItemStatus = ItemStatus.ANSWERED


@dataclass(frozen=True)
class ConversationHistory:
    """The items of a conversation, oldest first.

    `openclaw_session_id` is OpenClaw's id of the session's memory. If OpenClaw has another id now,
    the agent has forgotten the items.
    """

    openclaw_session_id: str | None = None
    items: tuple[HistoryItem, ...] = ()

    @property
    def answered(self) -> tuple[HistoryItem, ...]:
        """The items up to the latest answer."""
        return self.items[: self._end]

    @property
    def unanswered(self) -> tuple[HistoryItem, ...]:
        """The items after the latest answer."""
        return self.items[self._end :]

    @property
    def _end(self) -> int:
        end = len(self.items)
        while end and self.items[end - 1].status is not ItemStatus.ANSWERED:
            end -= 1
        return end

    def to_bytes(self) -> bytes:
        """The latest items for a column."""
        latest = self.items[-MAX_ITEMS:]
        return b"".join(each.status.value[0].encode() + each.digest for each in latest)

    def to_json(self) -> dict[str, str | None]:
        """The history for an archive."""
        return {
            "openclaw_session_id": self.openclaw_session_id,
            "items": base64.b64encode(self.to_bytes()).decode(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, str | None]) -> Self:
        """A history from an archive. Raises ValueError if the content is no history."""
        packed = base64.b64decode(content["items"] or "", validate=True)
        return cls.from_bytes(content["openclaw_session_id"], packed)

    @classmethod
    def from_bytes(cls, openclaw_session_id: str | None, packed: bytes) -> Self:
        """A history from a column. Raises ValueError if the bytes are no history."""
        if len(packed) % (size := DIGEST_BYTES + 1):
            raise ValueError("the last item is incomplete")
        entries = [packed[at : at + size] for at in range(0, len(packed), size)]
        try:
            items = [HistoryItem(each[1:], _BY_LETTER[chr(each[0])]) for each in entries]
        except KeyError as unknown:
            raise ValueError(f"{unknown} is not a status") from None
        return cls(openclaw_session_id, tuple(items))


@dataclass(frozen=True)
class UnsavedTurn:
    """A message with its answer, as items in the gateway's form; None if they were too long."""

    at: datetime
    items: tuple[dict[str, Any], ...] | None


@dataclass(eq=False, repr=False)
class ConversationHistoryQueries:
    """Histories by instance and OpenClaw's session key."""

    database: Database
    secret_box: SecretBox

    def __post_init__(self) -> None:
        self._cache = LRUCache[Identity, ConversationHistory](CAPACITY)
        self._unwritten = WriteBehind[Identity, ConversationHistory](
            self.database, "writing conversation histories", _save
        )
        self._unwritten_turns = WriteBehind[tuple[Identity, datetime], bytes | None](
            self.database, "writing the texts of conversations", _save_turns
        )
        self._with_lost: set[Identity] | None = None
        """The sessions with lost turns; None until they are read."""
        self._is_new = asyncio.Event()

    async def get(self, instance_id: InstanceId, session_key: str) -> ConversationHistory:
        """The history of a session; a new session has an empty one."""
        identity = (instance_id, session_key)
        if (history := self._in_memory(identity)) is not None:
            return history
        stored = await self._read(instance_id, session_key)
        # Another task may have put a newer one meanwhile.
        history = self._in_memory(identity) or stored.get(session_key, ConversationHistory())
        self._cache[identity] = history
        return history

    def latest(self, instance_id: InstanceId, session_key: str) -> ConversationHistory:
        """The history of a session as far as it is in memory."""
        return self._in_memory((instance_id, session_key)) or ConversationHistory()

    def put(self, instance_id: InstanceId, session_key: str, history: ConversationHistory) -> None:
        """Replaces the history of a session; it is written to disk a moment later."""
        identity = (instance_id, session_key)
        self._cache[identity] = history
        self._unwritten.pending[identity] = history
        self._is_new.set()

    async def of_instance(self, instance_id: InstanceId) -> dict[str, ConversationHistory]:
        """All histories of an instance by OpenClaw's session keys."""
        return await self._read(instance_id) | {
            key: history
            for (each, key), history in self._unwritten.pending.items()
            if each == instance_id
        }

    async def replace(
        self, instance_id: InstanceId, histories: Mapping[str, ConversationHistory]
    ) -> None:
        """Replaces all histories of an instance; its unsaved turns stay."""
        async with self.database.writing(invalidates_caches=False) as session:
            for histories_in_memory in (self._unwritten.pending, self._cache):
                for identity in [each for each in histories_in_memory if each[0] == instance_id]:
                    del histories_in_memory[identity]
            for row in (ConversationHistoryRow, IdempotentAnswerRow):
                await session.exec(delete(row).where(col(row.instance_id) == instance_id))
            for page in in_pages(histories.items()):
                rows = [_row((instance_id, key), each) for key, each in page]
                await session.exec(_UPSERT, params=rows)

    def add_unsaved(
        self, instance_id: InstanceId, session_key: str, at: datetime, items: Sequence[Any]
    ) -> None:
        """Keeps an answered turn until it is in a snapshot. It has the session's lost ones, too."""
        is_short = sum(len(str(part)) for each in items for part in each.values()) < MAX_TURN_CHARS
        packed = self.secret_box.encrypt(json.dumps(items)) if is_short else None
        self._unwritten_turns.pending[(instance_id, session_key), at] = packed
        if self._with_lost is not None:
            self._with_lost.discard((instance_id, session_key))
        self._is_new.set()

    async def forget_unsaved(self, instance_id: InstanceId, until: datetime | None = None) -> None:
        """Forgets turns that a snapshot has, or with which an instance has nothing to do now."""
        await self.write()
        rows = [col(UnsavedTurnRow.instance_id) == instance_id]
        if until is not None:
            rows += [col(UnsavedTurnRow.at) <= until, ~col(UnsavedTurnRow.is_lost)]
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(delete(UnsavedTurnRow).where(*rows))
        if until is None:
            self._with_lost = None

    async def lose_unsaved(self, instance_id: InstanceId, since: datetime) -> Counter[str]:
        """Notes that an instance goes back to a snapshot; the numbers of lost turns by session."""
        await self.write()
        rows = (col(UnsavedTurnRow.instance_id) == instance_id, col(UnsavedTurnRow.at) > since)
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(update(UnsavedTurnRow).where(*rows).values(is_lost=True))
            lost = Counter(await session.exec(select(UnsavedTurnRow.session_key).where(*rows)))
        self._with_lost = None
        return lost

    async def lost(self, instance_id: InstanceId, session_key: str) -> list[UnsavedTurn]:
        """The turns that the agent has to hear again before a session's next message."""
        if self._with_lost is None:
            columns = UnsavedTurnRow.instance_id, UnsavedTurnRow.session_key
            async with self.database.reading() as session:
                found = await session.exec(select(*columns).where(col(UnsavedTurnRow.is_lost)))
                self._with_lost = {(InstanceId(each), key) for each, key in found}
        if (instance_id, session_key) not in self._with_lost:
            return []
        query = select(UnsavedTurnRow.at, UnsavedTurnRow.items_ciphertext).where(
            UnsavedTurnRow.instance_id == instance_id,
            UnsavedTurnRow.session_key == session_key,
            col(UnsavedTurnRow.is_lost),
        )
        async with self.database.reading() as session:
            rows = await session.exec(query.order_by(col(UnsavedTurnRow.at)))
            return [UnsavedTurn(at, self._unpacked(packed)) for at, packed in rows]

    def _unpacked(self, packed: bytes | None) -> tuple[dict[str, Any], ...] | None:
        try:
            return None if packed is None else tuple(json.loads(self.secret_box.decrypt(packed)))
        except InvalidToken:
            # It was encrypted with another secret.key, and counts as too long.
            return None

    async def run(self) -> None:
        """Writes changed histories, until cancelled."""
        while True:
            await self._is_new.wait()
            self._is_new.clear()
            with logging_errors("writing conversation histories"):
                await self.write()
            is_left = self._unwritten.pending or self._unwritten_turns.pending
            if is_left and not self._is_new.is_set():
                await asyncio.sleep(RETRY_INTERVAL_S)
                self._is_new.set()

    async def write(self) -> None:
        """Writes all changed histories and new turns."""
        await self._unwritten.write()
        await self._unwritten_turns.write()

    def _in_memory(self, identity: Identity) -> ConversationHistory | None:
        history = self._unwritten.pending.get(identity) or self._cache.get(identity)
        if history is not None:
            self._cache[identity] = history
        return history

    async def _read(
        self, instance_id: InstanceId, session_key: str | None = None
    ) -> dict[str, ConversationHistory]:
        columns = _TABLE.c
        query = _TABLE.select().where(columns.instance_id == instance_id)
        if session_key is not None:
            query = query.where(columns.session_key == session_key)
        histories: dict[str, ConversationHistory] = {}
        async for page in self.database.pages(query):
            for row in page:
                history = ConversationHistory.from_bytes(row["openclaw_session_id"], row["items"])
                histories[row["session_key"]] = history
        return histories


_TABLE = METADATA.tables["conversation_history"]
_INSERT = insert(ConversationHistoryRow)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["instance_id", "session_key"],
    set_={
        "openclaw_session_id": _INSERT.excluded.openclaw_session_id,
        "items": _INSERT.excluded["items"],
    },
)


async def _save(session: AsyncSession, histories: Mapping[Identity, ConversationHistory]) -> None:
    await session.exec(_UPSERT, params=[_row(*each) for each in histories.items()])
    await erase_deleted(session, {each for each, _ in histories}, [ConversationHistoryRow])


async def _save_turns(
    session: AsyncSession, turns: Mapping[tuple[Identity, datetime], bytes | None]
) -> None:
    for ((instance_id, key), at), packed in turns.items():
        of_instance = col(UnsavedTurnRow.instance_id) == instance_id
        is_repeated = col(UnsavedTurnRow.is_lost), col(UnsavedTurnRow.session_key) == key
        await session.exec(delete(UnsavedTurnRow).where(of_instance, *is_repeated))
        values = {
            "instance_id": instance_id,
            "session_key": key,
            "at": at,
            "is_lost": False,
            "items_ciphertext": packed,
        }
        # A write that was cancelled may have been committed.
        await session.exec(insert(UnsavedTurnRow).values(values).on_conflict_do_nothing())
        newest = select(UnsavedTurnRow.at).where(of_instance)
        newest = newest.order_by(col(UnsavedTurnRow.at).desc()).limit(1).offset(MAX_UNSAVED_TURNS)
        is_old = col(UnsavedTurnRow.at) <= newest.scalar_subquery()
        await session.exec(delete(UnsavedTurnRow).where(of_instance, is_old))
    await erase_deleted(session, {each for (each, _), _ in turns}, [UnsavedTurnRow])


def _row(identity: Identity, history: ConversationHistory) -> dict[str, object]:
    instance_id, session_key = identity
    return {
        "instance_id": instance_id,
        "session_key": session_key,
        "openclaw_session_id": history.openclaw_session_id,
        "items": history.to_bytes(),
    }
