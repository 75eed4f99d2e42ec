"""Queries on snapshots."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlmodel import col, delete, select

from chowder_local.core.domain import InstanceStatus, Snapshot, SnapshotId
from chowder_local.core.events import Events, EventType
from chowder_local.store.sqlite import translated_errors
from chowder_local.store.tables import EncryptedJson, InstanceRow, SnapshotRow, encrypt_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import ColumnElement

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database


def read_versions_in_use(path: Path, secret_box: SecretBox) -> list[tuple[str, str | None]]:
    """The agents and snapshots in a database, each with its `openclaw_version` if that is known.

    For commands: it needs no server. Raises DataDirUnusable if the file cannot be read.
    """
    agents = "SELECT name, openclaw_version FROM instance WHERE status != 'terminated'"
    kept = "SELECT id, name, content_ciphertext FROM snapshot WHERE is_kept AND is_whole"
    with (
        translated_errors(path),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database,
    ):
        in_use = [(f"the agent {name}", version) for name, version in database.execute(agents)]
        for snapshot_id, name, ciphertext in database.execute(kept):
            content = EncryptedJson(ciphertext, secret_box, f"The snapshot {snapshot_id}")
            in_use.append((f"the snapshot {name or snapshot_id}", content.get("openclaw_version")))
    return in_use


@dataclass(eq=False, repr=False)
class SnapshotQueries:
    """Queries on snapshots, complete or not. Changes of kept snapshots publish events."""

    database: Database
    secret_box: SecretBox
    events: Events = field(default_factory=Events)

    async def add(self, snapshot: Snapshot) -> None:
        """Adds a snapshot before it is made."""
        # In threads: a snapshot may have the names of 100,000 sessions.
        ciphertext = await asyncio.to_thread(encrypt_json, snapshot.content, self.secret_box)
        async with self.database.writing(invalidates_caches=False) as session:
            session.add(SnapshotRow(**vars(snapshot), content_ciphertext=ciphertext))

    async def finish(
        self, snapshot_id: SnapshotId, size_bytes: int, content: Mapping[str, Any]
    ) -> Snapshot | None:
        """Marks a snapshot as complete; None if it was dropped meanwhile."""
        ciphertext = await asyncio.to_thread(encrypt_json, content, self.secret_box)
        async with self.database.writing(invalidates_caches=False) as session:
            row = await session.get(SnapshotRow, snapshot_id)
            if row is None:
                return None
            row.is_whole, row.size_bytes = True, size_bytes
            row.content_ciphertext = ciphertext
            snapshot = replace(self._snapshot(row), content=content)
        if snapshot.is_kept:
            self._publish(EventType.SNAPSHOT_MADE, snapshot)
        return snapshot

    async def get(self, snapshot_id: SnapshotId) -> Snapshot | None:
        """The snapshot, complete or not, kept or not."""
        async with self.database.reading() as session:
            row = await session.get(SnapshotRow, snapshot_id)
        if row is None:
            return None
        content = await asyncio.to_thread(self._content(row).load)
        return replace(self._snapshot(row), content=content)

    async def of_organization(self, organization_id: OrganizationId) -> list[Snapshot]:
        """Its complete, kept snapshots, oldest first."""
        return await self._list(col(SnapshotRow.organization_id) == organization_id)

    async def of_instance(self, instance_id: InstanceId) -> list[Snapshot]:
        """The complete, kept snapshots of an instance, oldest first."""
        return await self._list(col(SnapshotRow.instance_id) == instance_id)

    async def release(self, snapshot_id: SnapshotId) -> None:
        """Marks a snapshot as not kept: it is removed when no instance is being made from it."""
        async with self.database.writing(invalidates_caches=False) as session:
            row = await session.get(SnapshotRow, snapshot_id)
            if row is None or not row.is_kept:
                return
            row.is_kept = False
            released = self._snapshot(row)
        self._publish(EventType.SNAPSHOT_REMOVED, released)

    async def ids(self) -> set[SnapshotId]:
        """The ids of all snapshots."""
        async with self.database.reading() as session:
            return {SnapshotId(each) for each in await session.exec(select(SnapshotRow.id))}

    async def leftovers(self) -> set[SnapshotId]:
        """Snapshots that are incomplete, or neither kept nor needed by a provisioning instance."""
        needed = select(InstanceRow.origin_snapshot_id).where(
            col(InstanceRow.status) == InstanceStatus.PROVISIONING,
            col(InstanceRow.first_ready_at).is_(None),
            col(InstanceRow.origin_snapshot_id).is_not(None),
        )
        async with self.database.reading() as session:
            ids = await session.exec(
                select(SnapshotRow.id).where(
                    col(SnapshotRow.is_whole).is_(False)
                    | (col(SnapshotRow.is_kept).is_(False) & col(SnapshotRow.id).not_in(needed))
                )
            )
            return {SnapshotId(each) for each in ids}

    async def drop(self, snapshot_id: SnapshotId) -> None:
        """Deletes a snapshot's row. An archive that is left belongs to no row afterwards."""
        async with self.database.writing(invalidates_caches=False) as session:
            await session.exec(delete(SnapshotRow).where(col(SnapshotRow.id) == snapshot_id))

    async def _list(self, condition: ColumnElement[bool]) -> list[Snapshot]:
        async with self.database.reading() as session:
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
        self.events.publish(
            kind, snapshot.organization_id, snapshot.instance_id, snapshot_id=snapshot.id
        )

    def _snapshot(self, row: SnapshotRow) -> Snapshot:
        fields = row.model_dump(exclude={"content_ciphertext"})
        return Snapshot(**fields, content=self._content(row))

    def _content(self, row: SnapshotRow) -> EncryptedJson:
        return EncryptedJson(row.content_ciphertext, self.secret_box, f"The snapshot {row.id}")
