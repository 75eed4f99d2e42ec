"""The local messenger's messages."""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cryptography.fernet import InvalidToken
from sqlmodel import Field, Index, col, delete, insert, select, update

from chowder_local.core.domain import InstanceId
from chowder_local.store.instances import erase_deleted
from chowder_local.store.tables import Table, encrypt_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database

log = logging.getLogger(__name__)


class ChannelMessageRow(Table, table=True):
    """A message of the local messenger, from a person or from the agent.

    `is_delivered` says of a person's message whether the agent has fetched it.
    """

    __tablename__: ClassVar[str] = "channel_message"
    __table_args__ = (Index("ix_channel_message_chat", "instance_id", "channel"),)

    id: int | None = Field(default=None, primary_key=True)
    instance_id: str = Field(foreign_key="instance.id")
    channel: str
    is_delivered: bool
    content_ciphertext: bytes
    image_ciphertext: bytes | None = None


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
    secret_box: SecretBox

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
        # A picture may have megabytes.
        ciphertexts = await asyncio.to_thread(self._encrypted, content, image)
        row = {
            "instance_id": instance_id,
            "channel": channel,
            "is_delivered": is_delivered,
            **ciphertexts,
        }
        async with self.database.writing(invalidates_caches=False) as session:
            added = insert(ChannelMessageRow).values(row).returning(col(ChannelMessageRow.id))
            number: int = (await session.exec(added)).scalar_one()
            await erase_deleted(session, {instance_id}, [ChannelMessageRow])
        return number

    def _encrypted(self, content: Mapping[str, Any], image: bytes | None) -> dict[str, Any]:
        picture = None if image is None else self.secret_box.encrypt(b64encode(image).decode())
        return {
            "content_ciphertext": encrypt_json(content, self.secret_box),
            "image_ciphertext": picture,
        }

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
        return await asyncio.to_thread(self._decrypted, rows)

    def _decrypted(self, rows: Sequence[tuple[int | None, bool, bytes]]) -> list[StoredMessage]:
        found = []
        for number, is_delivered, ciphertext in reversed(rows):
            try:
                content = json.loads(self.secret_box.decrypt(ciphertext))
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
        if ciphertext is None:
            return None
        return b64decode(await asyncio.to_thread(self.secret_box.decrypt, ciphertext))

    async def undelivered_channels(self) -> list[tuple[InstanceId, str]]:
        """The agents and channels in which somebody waits."""
        columns = (col(ChannelMessageRow.instance_id), col(ChannelMessageRow.channel))
        query = select(*columns).where(~col(ChannelMessageRow.is_delivered)).distinct()
        async with self.database.reading() as session:
            rows = (await session.exec(query)).all()
        return [(InstanceId(instance_id), channel) for instance_id, channel in rows]

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
