"""Instances; every change of their status is a compare-and-set."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from sqlmodel import col, func, select, tuple_

from chowder_local.core.domain import Instance, InstanceId, InstanceStatus, SandboxId
from chowder_local.core.errors.requests import InstanceLimitReached
from chowder_local.core.events import Events, EventType
from chowder_local.store.conversation_histories import forget_histories
from chowder_local.store.database import ReadCache
from chowder_local.store.encrypted_json import EncryptedJson, encrypt_json
from chowder_local.store.tables import METADATA, InstanceRow, KeyGrantRow
from chowder_local.store.warm_sandboxes import claim

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Mapped
    from sqlmodel.ext.asyncio.session import AsyncSession
    from sqlmodel.sql.expression import SelectOfScalar

    from chowder_local.core.domain import (
        Egress,
        KeyId,
        ModelProvider,
        OrganizationId,
        SnapshotId,
        WarmSandbox,
    )
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database

_LIVING = tuple(status for status in InstanceStatus if status is not InstanceStatus.TERMINATED)
"""For lists, which have nothing better to go by: SQLite's indexes serve IN, and never <>."""
_IS_LIVING = col(InstanceRow.status) != InstanceStatus.TERMINATED
"""For rows that are found by their ids: a status is not to look like a shorter way to them."""
BATCH_SIZE = 500
"""Of values in one statement; SQLite takes no more than some ten thousand."""
_TABLE = METADATA.tables["instance"]

Found = TypeVar("Found")


class InstanceChanges(TypedDict, total=False):
    """What of an instance can change."""

    name: str
    status: InstanceStatus
    openclaw_config: Mapping[str, Any] | None
    error_message: str | None
    gateway_url: str | None
    first_ready_at: datetime | None
    egress: Egress | None
    model_provider: ModelProvider
    origin_snapshot_id: SnapshotId | None


class InstanceQueries:
    """Instances, the terminated ones too; each change of a status is published as an event."""

    def __init__(self, database: Database, box: SecretBox, events: Events | None = None) -> None:
        self._database = database
        self._box = box
        self._events = events or Events()
        self._read_cache = ReadCache[Instance](database)

    async def add(
        self,
        instance: Instance,
        limit: int | None,
        fingerprint: str | None = None,
        booting: SandboxId | None = None,
    ) -> tuple[Instance, WarmSandbox | None]:
        """Keeps a new instance, unless its organization has `limit` living ones already.

        If a warm sandbox of that fingerprint is ready, or else the booting one has it, it becomes
        the instance's. Raises InstanceLimitReached. All of it is one transaction, so that racing
        calls can neither pass the limit together, nor claim one sandbox twice.
        """
        async with self._database.writing() as session:
            if limit is not None:
                count = await count_living(session, instance.organization_id)
                if count >= limit:
                    raise InstanceLimitReached(count, limit)
            claimed = await claim(session, fingerprint, booting)
            if claimed is not None:
                instance = replace(instance, sandbox_id=claimed.sandbox_id)
            session.add(InstanceRow(**self._columns(vars(instance))))
        self._publish(instance, None, claimed)
        return instance, claimed

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """The instance, in whatever status."""
        return await self._read_cache.get(
            instance_id, lambda: self._one(col(InstanceRow.id) == instance_id)
        )

    async def by_sandbox(self, sandbox_id: SandboxId) -> Instance | None:
        """The instance that a sandbox belongs or belonged to."""
        return await self._read_cache.get(
            ("sandbox", sandbox_id), lambda: self._one(col(InstanceRow.sandbox_id) == sandbox_id)
        )

    async def owners(self, sandbox_ids: Collection[SandboxId]) -> list[Instance]:
        """The living instances that the sandboxes belong to."""
        rows = await self._living(select(InstanceRow), col(InstanceRow.sandbox_id), sandbox_ids)
        return [self._instance(row.model_dump()) for row in rows]

    async def owned(self, sandbox_ids: Collection[SandboxId]) -> set[SandboxId]:
        """Those of the sandboxes that belong to living instances, which may be thousands."""
        sandbox_id = col(InstanceRow.sandbox_id)
        found = await self._living(select(sandbox_id), sandbox_id, sandbox_ids)
        return {SandboxId(each) for each in found}

    def of_organization(self, organization_id: OrganizationId) -> AsyncGenerator[list[Instance]]:
        """Its living instances, oldest first, in pages; close the iterator to stop early."""
        return self._pages(
            col(InstanceRow.organization_id) == organization_id,
            col(InstanceRow.status).in_(_LIVING),
        )

    def of_key(self, key_id: KeyId) -> AsyncGenerator[list[Instance]]:
        """The living instances that a scoped key is for, in the same way."""
        granted = select(KeyGrantRow.instance_id).where(KeyGrantRow.key_id == key_id)
        return self._pages(col(InstanceRow.id).in_(granted), _IS_LIVING)

    async def has_all(
        self, organization_id: OrganizationId, instance_ids: Collection[InstanceId]
    ) -> bool:
        """Whether these, each named once, are all living instances of the organization."""
        owner = select(InstanceRow.organization_id)
        found = await self._living(owner, col(InstanceRow.id), instance_ids)
        return found == [organization_id] * len(instance_ids)

    async def running_or_provisioning(self) -> list[Instance]:
        """Oldest first."""
        statuses = (InstanceStatus.RUNNING, InstanceStatus.PROVISIONING)
        found = select(InstanceRow).where(col(InstanceRow.status).in_(statuses))
        return await self._found(found.order_by(col(InstanceRow.created_at), col(InstanceRow.id)))

    async def running(self) -> dict[InstanceId, SandboxId]:
        """The sandbox of every instance that runs."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(InstanceRow.id, InstanceRow.sandbox_id).where(
                    InstanceRow.status == InstanceStatus.RUNNING
                )
            )
            return {InstanceId(each): SandboxId(sandbox) for each, sandbox in rows}

    async def search(
        self,
        organization_id: OrganizationId,
        *,
        text: str = "",
        status: InstanceStatus | None = None,
        after: Instance | None = None,
        limit: int,
    ) -> list[Instance]:
        """Its living instances with a text in their name, or at their id's beginning, newest first.

        `after` is the last one of those that were found before.
        """
        wanted = _LIVING if status is None else (status,)
        found = select(InstanceRow).where(
            InstanceRow.organization_id == organization_id, col(InstanceRow.status).in_(wanted)
        )
        if text:
            found = found.where(
                col(InstanceRow.name).contains(text, autoescape=True)
                | col(InstanceRow.id).startswith(text, autoescape=True)
            )
        place = (col(InstanceRow.created_at), col(InstanceRow.id))
        if after is not None:
            found = found.where(tuple_(*place) < (after.created_at, after.id))
        newest = (each.desc() for each in place)
        return await self._found(found.order_by(*newest).limit(limit))

    async def change(
        self,
        instance_id: InstanceId,
        *,
        only_from: Collection[InstanceStatus] | None = None,
        now: datetime,
        **fields: Unpack[InstanceChanges],
    ) -> Instance | None:
        """The changed instance, or None if it is gone or in none of the statuses `only_from`.

        Of calls that race from the same status, one gets the instance.
        """
        async with self._database.writing() as session:
            row = await session.get(InstanceRow, instance_id)
            if row is None or not (only_from is None or row.status in only_from):
                return None
            before = row.status, row.error_message
            row.sqlmodel_update(self._columns({**fields, "updated_at": now}))
            changed = self._instance(row.model_dump())
            if changed.status is InstanceStatus.TERMINATED:
                await forget_histories(session, instance_id)
        if before != (changed.status, changed.error_message):
            self._publish(changed, before[0])
        return changed

    async def replace_sandbox(
        self,
        former: Instance,
        sandbox_id: SandboxId,
        *,
        fingerprint: str | None,
        booting: SandboxId | None,
        now: datetime,
        **fields: Unpack[InstanceChanges],
    ) -> tuple[Instance, WarmSandbox | None] | None:
        """The instance as one that is provisioned anew in another sandbox: a warm one, if any fits.

        None if it is not any more in the status in which it was. Its former sandbox is nobody's.
        """
        async with self._database.writing() as session:
            row = await session.get(InstanceRow, former.id)
            if row is None or row.status is not former.status:
                return None
            claimed = await claim(session, fingerprint, booting)
            columns = {
                **fields,
                "status": InstanceStatus.PROVISIONING,
                "sandbox_id": sandbox_id if claimed is None else claimed.sandbox_id,
                "gateway_url": None,
                "first_ready_at": None,
                "error_message": None,
                "updated_at": now,
            }
            row.sqlmodel_update(self._columns(columns))
            replaced = self._instance(row.model_dump())
        self._publish(replaced, former.status, claimed)
        return replaced, claimed

    async def counts(
        self, organization_id: OrganizationId | None = None
    ) -> dict[InstanceStatus, int]:
        """How many instances, of all or one organization, are in each status, if none then 0."""
        counted_rows = select(InstanceRow.status, func.count()).group_by(col(InstanceRow.status))
        if organization_id is not None:
            counted_rows = counted_rows.where(InstanceRow.organization_id == organization_id)
        async with self._database.reading() as session:
            rows = await session.exec(counted_rows)
            counted = dict(rows.all())
            return {status: counted.get(status, 0) for status in InstanceStatus}

    def _publish(
        self, instance: Instance, before: str | None, claimed: WarmSandbox | None = None
    ) -> None:
        owner = (instance.organization_id, instance.id)
        if claimed is not None:
            self._events.publish(
                EventType.WARM_SANDBOX_CLAIMED, *owner, sandbox_id=claimed.sandbox_id
            )
        self._events.publish(
            EventType.INSTANCE_STATUS,
            *owner,
            status=instance.status,
            before=before,
            error_message=instance.error_message,
        )

    async def _living(
        self, question: SelectOfScalar[Found], column: Mapped[str], wanted: Collection[str]
    ) -> list[Found]:
        """What a question finds of the living instances with one of the wanted values."""
        values, found = sorted(wanted), list[Found]()
        async with self._database.reading() as session:
            for start in range(0, len(values), BATCH_SIZE):
                some = values[start : start + BATCH_SIZE]
                found += await session.exec(question.where(column.in_(some), _IS_LIVING))
        return found

    async def _pages(self, *conditions: ColumnElement[bool]) -> AsyncGenerator[list[Instance]]:
        found = _TABLE.select().where(*conditions).order_by(_TABLE.c.created_at, _TABLE.c.id)
        async with aclosing(self._database.pages(found)) as pages:
            async for rows in pages:
                yield [self._instance(fields) for fields in rows]

    async def _one(self, condition: ColumnElement[bool]) -> Instance | None:
        found = await self._found(select(InstanceRow).where(condition))
        return found[0] if found else None

    async def _found(self, question: SelectOfScalar[InstanceRow]) -> list[Instance]:
        async with self._database.reading() as session:
            rows = await session.exec(question)
            return [self._instance(row.model_dump()) for row in rows]

    def _columns(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        columns = dict(fields)
        if "openclaw_config" in columns:
            config = columns.pop("openclaw_config")
            ciphertext = None if config is None else encrypt_json(config, self._box)
            columns["openclaw_config_ciphertext"] = ciphertext
        return columns

    def _instance(self, fields: dict[str, Any]) -> Instance:
        if (ciphertext := fields.pop("openclaw_config_ciphertext")) is not None:
            whose = f"The openclaw_config of instance {fields['id']}"
            fields["openclaw_config"] = EncryptedJson(ciphertext, self._box, whose)
        return Instance(**fields)


async def count_living(session: AsyncSession, organization_id: str) -> int:
    """How many instances of an organization are not terminated."""
    counted = select(func.count()).where(
        InstanceRow.organization_id == organization_id, col(InstanceRow.status).in_(_LIVING)
    )
    return (await session.exec(counted)).one()
