"""Snapshots: agents as they were, to be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlmodel import col, delete, select

from chowder_local.core.domain import InstanceStatus, Snapshot, SnapshotId
from chowder_local.core.events import Events, EventType
from chowder_local.store.encrypted_json import EncryptedJson, encrypt_json
from chowder_local.store.tables import InstanceRow, SnapshotRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database


class SnapshotQueries:
    """Snapshots, those that are still being made included; events tell of those that are kept."""

    def __init__(self, database: Database, box: SecretBox, events: Events | None = None) -> None:
        self._database = database
        self._box = box
        self._events = events or Events()

    async def add(self, snapshot: Snapshot) -> None:
        """Keeps one that is about to be made."""
        async with self._database.writing(invalidates_caches=False) as session:
            ciphertext = encrypt_json(snapshot.content, self._box)
            session.add(SnapshotRow(**vars(snapshot), content_ciphertext=ciphertext))

    async def finish(
        self, snapshot_id: SnapshotId, size_bytes: int, content: Mapping[str, Any]
    ) -> Snapshot | None:
        """The snapshot, whose archive is there now; None if it was forgotten meanwhile."""
        async with self._database.writing(invalidates_caches=False) as session:
            row = await session.get(SnapshotRow, snapshot_id)
            if row is None:
                return None
            row.is_whole, row.size_bytes = True, size_bytes
            row.content_ciphertext = encrypt_json(content, self._box)
            made = self._snapshot(row)
        if made.is_kept:
            self._publish(EventType.SNAPSHOT_MADE, made)
        return made

    async def get(self, snapshot_id: SnapshotId) -> Snapshot | None:
        """The snapshot, whole or not, kept or not."""
        async with self._database.reading() as session:
            row = await session.get(SnapshotRow, snapshot_id)
            return None if row is None else self._snapshot(row)

    async def of_organization(self, organization_id: OrganizationId) -> list[Snapshot]:
        """Its whole snapshots that are kept, oldest first."""
        return await self._listed(col(SnapshotRow.organization_id) == organization_id)

    async def of_instance(self, instance_id: InstanceId) -> list[Snapshot]:
        """Those made of an instance, in the same way."""
        return await self._listed(col(SnapshotRow.instance_id) == instance_id)

    async def release(self, snapshot_id: SnapshotId) -> None:
        """Keeps it no longer; it goes once no instance is being made of it."""
        async with self._database.writing(invalidates_caches=False) as session:
            row = await session.get(SnapshotRow, snapshot_id)
            if row is None or not row.is_kept:
                return
            row.is_kept = False
            released = self._snapshot(row)
        self._publish(EventType.SNAPSHOT_REMOVED, released)

    async def ids(self) -> set[SnapshotId]:
        """Of all that there are."""
        async with self._database.reading() as session:
            return {SnapshotId(each) for each in await session.exec(select(SnapshotRow.id))}

    async def leftovers(self) -> set[SnapshotId]:
        """Those that are not whole, or that are not kept and that no instance is being made of."""
        making = select(InstanceRow.origin_snapshot_id).where(
            col(InstanceRow.status) == InstanceStatus.PROVISIONING,
            col(InstanceRow.first_ready_at).is_(None),
            col(InstanceRow.origin_snapshot_id).is_not(None),
        )
        async with self._database.reading() as session:
            found = await session.exec(
                select(SnapshotRow.id).where(
                    col(SnapshotRow.is_whole).is_(False)
                    | (col(SnapshotRow.is_kept).is_(False) & col(SnapshotRow.id).not_in(making))
                )
            )
            return {SnapshotId(each) for each in found}

    async def drop(self, snapshot_id: SnapshotId) -> None:
        """Forgets it; its archive is removed before, or belongs to nothing from now on."""
        async with self._database.writing(invalidates_caches=False) as session:
            await session.exec(delete(SnapshotRow).where(col(SnapshotRow.id) == snapshot_id))

    async def _listed(self, condition: ColumnElement[bool]) -> list[Snapshot]:
        async with self._database.reading() as session:
            rows = await session.exec(
                select(SnapshotRow)
                .where(
                    condition,
                    col(SnapshotRow.is_kept).is_(True),
                    col(SnapshotRow.is_whole).is_(True),
                )
                .order_by(col(SnapshotRow.created_at), col(SnapshotRow.id))
            )
            return [self._snapshot(row) for row in rows]

    def _publish(self, kind: EventType, snapshot: Snapshot) -> None:
        self._events.publish(
            kind, snapshot.organization_id, snapshot.instance_id, snapshot_id=snapshot.id
        )

    def _snapshot(self, row: SnapshotRow) -> Snapshot:
        fields = row.model_dump()
        content = EncryptedJson(
            fields.pop("content_ciphertext"), self._box, f"The snapshot {row.id}"
        )
        return Snapshot(**fields, content=content)
