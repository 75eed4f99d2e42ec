"""The local messenger's messages."""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.fernet import InvalidToken
from sqlmodel import col, delete, select, update

from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import ChannelMessageRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.domain import InstanceId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredMessage:
    """A message as it is kept; `content` is the messenger's own."""

    id: int
    is_delivered: bool
    content: Mapping[str, Any]


@dataclass(eq=False, repr=False)
class ChannelMessageQueries:
    """The messages of each agent's channels, encrypted."""

    database: Database
    box: SecretBox

    async def add(
        self,
        instance_id: InstanceId,
        channel: str,
        content: Mapping[str, Any],
        image: bytes | None,
        *,
        is_delivered: bool,
    ) -> int:
        """Stores a message; returns its number, which grows."""
        row = ChannelMessageRow(
            instance_id=instance_id,
            channel=channel,
            is_delivered=is_delivered,
            content_ciphertext=self.box.encrypt(json.dumps(dict(content))),
            image_ciphertext=(
                None if image is None else self.box.encrypt(b64encode(image).decode())
            ),
        )
        async with self.database.writing(invalidates_caches=False) as session:
            session.add(row)
            await session.flush()
            await erase_deleted(session, {instance_id}, [ChannelMessageRow])
        assert row.id is not None  # noqa: S101 - the database has given it
        return row.id

    async def of_channel(
        self, instance_id: InstanceId, channel: str, limit: int
    ) -> list[StoredMessage]:
        """The latest messages, oldest first. One that another secret has encrypted is left out."""
        columns = (
            col(ChannelMessageRow.id),
            col(ChannelMessageRow.is_delivered),
            col(ChannelMessageRow.content_ciphertext),
        )
        query = (
            select(*columns)
            .where(*_is_of(instance_id, channel), col(ChannelMessageRow.content_ciphertext) != b"")
            .order_by(col(ChannelMessageRow.id).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            rows = (await session.exec(query)).all()
        found = []
        for number, is_delivered, ciphertext in reversed(rows):
            try:
                content = json.loads(self.box.decrypt(ciphertext))
            except InvalidToken:
                log.warning("channel message %s was encrypted with another secret.key", number)
                continue
            found.append(StoredMessage(number or 0, is_delivered, content))
        return found

    async def image(self, instance_id: InstanceId, channel: str, number: int) -> bytes | None:
        """The image of a message; None if it has none."""
        query = select(ChannelMessageRow.image_ciphertext).where(
            *_is_of(instance_id, channel), col(ChannelMessageRow.id) == number
        )
        async with self.database.reading() as session:
            ciphertext = (await session.exec(query)).first()
        return None if ciphertext is None else b64decode(self.box.decrypt(ciphertext))

    async def mark_delivered(self, numbers: Collection[int]) -> None:
        """The agent has fetched these messages."""
        rows = update(ChannelMessageRow).where(col(ChannelMessageRow.id).in_(numbers))
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(rows.values(is_delivered=True))

    async def remove_before(self, instance_id: InstanceId, channel: str, number: int) -> None:
        """Removes the messages with a lower number."""
        async with self.database.writing(invalidates_caches=False) as session:
            await self._delete(session, instance_id, channel, number)

    async def clear(self, instance_id: InstanceId, channel: str, last: int) -> None:
        """Removes all messages, of which `last` is the number of the latest."""
        # Its row stays, empty: OpenClaw remembers the last number, and takes no lower ones.
        row = update(ChannelMessageRow).where(col(ChannelMessageRow.id) == last)
        async with self.database.writing(invalidates_caches=False) as session:
            await self._delete(session, instance_id, channel, last)
            await session.exec(
                row.values(content_ciphertext=b"", image_ciphertext=None, is_delivered=True)
            )

    async def _delete(
        self, session: AsyncSession, instance_id: InstanceId, channel: str, before: int
    ) -> None:
        rows = (*_is_of(instance_id, channel), col(ChannelMessageRow.id) < before)
        await session.exec(delete(ChannelMessageRow).where(*rows))


def _is_of(instance_id: InstanceId, channel: str) -> tuple[Any, ...]:
    return (
        col(ChannelMessageRow.instance_id) == instance_id,
        col(ChannelMessageRow.channel) == channel,
    )
