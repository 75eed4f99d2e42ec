"""Stored answers to messages with an idempotency key."""

from __future__ import annotations

import base64
import logging
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.fernet import InvalidToken
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col, delete, select

from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import IdempotentAnswerRow

if TYPE_CHECKING:
    from datetime import datetime

    from chowder_local.core.domain import InstanceId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database

log = logging.getLogger(__name__)

KEPT_FOR = timedelta(hours=24)
MAX_ANSWERS_PER_INSTANCE = 200
MAX_ANSWER_BYTES = 512 * 1024
"""The size of a compressed answer; a larger one is not stored."""
_COMPRESSION_LEVEL = 1


@dataclass(frozen=True)
class MessageKey:
    """The digest of a client's idempotency key, which is unique within a session."""

    instance_id: InstanceId
    session_key: str
    sha256: str


@dataclass(frozen=True)
class KeptAnswer:
    """An answer, and the digest of its message."""

    request_sha256: str
    media_type: str
    body: bytes


@dataclass(eq=False, repr=False)
class IdempotentAnswerQueries:
    """Queries on answers, which are encrypted because they contain conversations."""

    database: Database
    secret_box: SecretBox

    async def get(self, key: MessageKey, now: datetime) -> KeptAnswer | None:
        """The stored answer of a key, unless it has expired."""
        async with self.database.reading() as session:
            row = await session.get(
                IdempotentAnswerRow, (key.instance_id, key.session_key, key.sha256)
            )
        if row is None or row.created_at <= now - KEPT_FOR:
            return None
        try:
            packed = base64.b64decode(self.secret_box.decrypt(row.body_ciphertext))
        except InvalidToken:
            log.warning("a stored answer was encrypted with another secret.key and is ignored")
            return None
        return KeptAnswer(row.request_sha256, row.media_type, zlib.decompress(packed))

    async def add(self, key: MessageKey, answer: KeptAnswer, now: datetime) -> None:
        """Stores an answer, unless it is too long. It is on disk when this returns."""
        packed = zlib.compress(answer.body, _COMPRESSION_LEVEL)
        if len(packed) > MAX_ANSWER_BYTES:
            return
        row = {
            "instance_id": key.instance_id,
            "session_key": key.session_key,
            "key_sha256": key.sha256,
            "request_sha256": answer.request_sha256,
            "media_type": answer.media_type,
            "body_ciphertext": self.secret_box.encrypt(base64.b64encode(packed).decode()),
            "created_at": now,
        }
        of_instance = col(IdempotentAnswerRow.instance_id) == key.instance_id
        newest = (
            select(IdempotentAnswerRow.created_at)
            .where(of_instance)
            .order_by(col(IdempotentAnswerRow.created_at).desc())
            .limit(1)
            .offset(MAX_ANSWERS_PER_INSTANCE - 1)
        )
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(insert(IdempotentAnswerRow).prefix_with("OR REPLACE"), params=[row])
            await session.exec(
                delete(IdempotentAnswerRow).where(
                    of_instance, col(IdempotentAnswerRow.created_at) < newest.scalar_subquery()
                )
            )
            await erase_deleted(session, {key.instance_id}, [IdempotentAnswerRow])

    async def expire(self, now: datetime) -> None:
        """Deletes expired answers."""
        is_expired = col(IdempotentAnswerRow.created_at) <= now - KEPT_FOR
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(delete(IdempotentAnswerRow).where(is_expired))
