"""What is asked and told about instances; every change of status is a compare-and-set."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from sqlmodel import col, func, select, tuple_

from chowder_local.core.domain import (
    Egress,
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
    SnapshotId,
    Spare,
)
from chowder_local.core.errors.requests import InstanceLimitReached
from chowder_local.core.events import Events, EventType
from chowder_local.store.conversation_histories import forget_if_deleted
from chowder_local.store.encrypted_json import EncryptedJson, seal
from chowder_local.store.read_cache import ReadCache
from chowder_local.store.tables import METADATA, InstanceRow, KeyGrantRow, SpareRow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.domain import KeyId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.database import Database

LIVING = tuple(status.value for status in InstanceStatus if status is not InstanceStatus.TERMINATED)
"""For lists, which have nothing better to go by: SQLite's indexes serve IN, and never <>."""
_IS_LIVING = col(InstanceRow.status) != InstanceStatus.TERMINATED.value
"""For rows that are asked for by their ids: a status is not to look like a shorter way to them."""
AWAKE = (InstanceStatus.PROVISIONING.value, InstanceStatus.RUNNING.value)
BATCH_SIZE = 500
"""Of values in one statement; SQLite takes no more than some ten thousand."""
_TABLE = METADATA.tables["instance"]

Value = TypeVar("Value")


class InstanceChanges(TypedDict, total=False):
    """What of an instance can change."""

    name: str
    status: InstanceStatus
    openclaw_config: Mapping[str, Any] | None
    error_message: str | None
    gateway_url: str | None
    born_at: datetime | None
    egress: Egress | None
    model_provider: ModelProvider
    seed_snapshot_id: SnapshotId | None


class InstanceQueries:
    """Instances, the terminated ones too; what becomes of them is told as an event."""

    def __init__(self, database: Database, box: SecretBox, events: Events | None = None) -> None:
        self._database = database
        self._box = box
        self._events = events or Events()
        self._read_cache = ReadCache[Instance](database)

    async def add(
        self,
        instance: Instance,
        limit: int | None,
        likeness: str | None = None,
        offered: SandboxId | None = None,
    ) -> tuple[Instance, Spare | None]:
        """Keeps a new instance, unless its organization has `limit` living ones already.

        If a spare of that likeness is ready, or else the offered one is of it, the instance gets
        its sandbox. Raises InstanceLimitReached. All of it is one transaction, so that racing
        calls can neither pass the limit together, nor claim one spare twice.
        """
        async with self._database.writing() as session:
            if limit is not None:
                counted = select(func.count()).where(
                    InstanceRow.organization_id == instance.organization_id,
                    col(InstanceRow.status).in_(LIVING),
                )
                count = (await session.exec(counted)).one()
                if count >= limit:
                    raise InstanceLimitReached(count, limit)
            spare = None if likeness is None else await _claimed(session, likeness, offered)
            if spare is not None:
                instance = replace(instance, sandbox_id=spare.sandbox_id)
            session.add(self._row(instance))
        self._tell_claim(instance, spare)
        self._tell(instance, None)
        return instance, spare

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """The instance, in whatever status."""
        return await self._read_cache.of(
            instance_id, lambda: self._one(col(InstanceRow.id) == instance_id)
        )

    async def by_sandbox(self, sandbox_id: SandboxId) -> Instance | None:
        """The instance that a sandbox belongs or belonged to."""
        return await self._read_cache.of(
            ("sandbox", sandbox_id), lambda: self._one(col(InstanceRow.sandbox_id) == sandbox_id)
        )

    async def owners(self, sandbox_ids: Collection[SandboxId]) -> list[Instance]:
        """The living instances that the sandboxes belong to."""
        found: list[Instance] = []
        async with self._database.reading() as session:
            for some in _batched(sorted(sandbox_ids)):
                rows = await session.exec(
                    select(InstanceRow).where(col(InstanceRow.sandbox_id).in_(some), _IS_LIVING)
                )
                found += [self._instance(row) for row in rows]
        return found

    async def owned(self, sandbox_ids: Collection[SandboxId]) -> set[SandboxId]:
        """Those of the sandboxes that belong to living instances, which may be thousands."""
        found: set[SandboxId] = set()
        async with self._database.reading() as session:
            for some in _batched(sorted(sandbox_ids)):
                ids = await session.exec(
                    select(InstanceRow.sandbox_id).where(
                        col(InstanceRow.sandbox_id).in_(some), _IS_LIVING
                    )
                )
                found |= {SandboxId(each) for each in ids}
        return found

    def of_organization(self, organization_id: OrganizationId) -> AsyncGenerator[list[Instance]]:
        """Its living instances, oldest first, in pages; close the iterator to stop early."""
        return self._pages(
            col(InstanceRow.organization_id) == organization_id, col(InstanceRow.status).in_(LIVING)
        )

    def of_key(self, key_id: KeyId) -> AsyncGenerator[list[Instance]]:
        """The living instances that a scoped key is for, in the same way."""
        granted = select(KeyGrantRow.instance_id).where(KeyGrantRow.key_id == key_id)
        return self._pages(col(InstanceRow.id).in_(granted), _IS_LIVING)

    async def has_all(
        self, organization_id: OrganizationId, instance_ids: Collection[InstanceId]
    ) -> bool:
        """Whether these, each named once, are all living instances of the organization."""
        found: list[str] = []
        async with self._database.reading() as session:
            for some in _batched(sorted(instance_ids)):
                found += await session.exec(
                    select(InstanceRow.organization_id).where(
                        col(InstanceRow.id).in_(some), _IS_LIVING
                    )
                )
        return found == [organization_id] * len(instance_ids)

    async def awake(self) -> list[Instance]:
        """Every instance that runs or is about to, oldest first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(InstanceRow)
                .where(col(InstanceRow.status).in_(AWAKE))
                .order_by(col(InstanceRow.created_at), col(InstanceRow.id))
            )
            return [self._instance(row) for row in rows]

    async def running(self) -> dict[InstanceId, SandboxId]:
        """The sandbox of every instance that runs."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(InstanceRow.id, InstanceRow.sandbox_id).where(
                    InstanceRow.status == InstanceStatus.RUNNING.value
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
        wanted = LIVING if status is None else (status.value,)
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
        async with self._database.reading() as session:
            rows = await session.exec(found.order_by(*newest).limit(limit))
            return [self._instance(row) for row in rows]

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
            for name, value in self._columns(fields).items():
                setattr(row, name, value)
            row.updated_at = now
            changed = self._instance(row)
            await forget_if_deleted(session, changed)
        if before != (changed.status, changed.error_message):
            self._tell(changed, before[0])
        return changed

    async def replace_sandbox(
        self,
        former: Instance,
        sandbox_id: SandboxId,
        *,
        likeness: str | None,
        offered: SandboxId | None,
        now: datetime,
        **fields: Unpack[InstanceChanges],
    ) -> tuple[Instance, Spare | None] | None:
        """The instance as one that is yet to be born, with another sandbox: a spare's, if any fits.

        None if it is not any more in the status in which it was. Its former sandbox is nobody's.
        """
        async with self._database.writing() as session:
            row = await session.get(InstanceRow, former.id)
            if row is None or row.status != former.status.value:
                return None
            spare = None if likeness is None else await _claimed(session, likeness, offered)
            anew: InstanceChanges = {
                **fields,
                "status": InstanceStatus.PROVISIONING,
                "gateway_url": None,
                "born_at": None,
                "error_message": None,
            }
            for name, value in self._columns(anew).items():
                setattr(row, name, value)
            row.sandbox_id = sandbox_id if spare is None else spare.sandbox_id
            row.updated_at = now
            remade = self._instance(row)
        self._tell_claim(remade, spare)
        self._tell(remade, former.status)
        return remade, spare

    async def counts(
        self, organization_id: OrganizationId | None = None
    ) -> dict[InstanceStatus, int]:
        """How many instances, of all or one organization, are in each status, if none then 0."""
        counted_rows = select(InstanceRow.status, func.count()).group_by(col(InstanceRow.status))
        if organization_id is not None:
            counted_rows = counted_rows.where(InstanceRow.organization_id == organization_id)
        async with self._database.reading() as session:
            rows = await session.exec(counted_rows)
            counted = {InstanceStatus(status): count for status, count in rows}
            return {status: counted.get(status, 0) for status in InstanceStatus}

    def _tell_claim(self, instance: Instance, spare: Spare | None) -> None:
        if spare is not None:
            self._events.publish(
                EventType.SPARE_CLAIMED,
                instance.organization_id,
                instance.id,
                sandbox_id=spare.sandbox_id,
            )

    def _tell(self, instance: Instance, before: str | None) -> None:
        self._events.publish(
            EventType.INSTANCE_STATUS,
            instance.organization_id,
            instance.id,
            status=instance.status,
            before=before,
            error_message=instance.error_message,
        )

    async def _pages(self, *conditions: ColumnElement[bool]) -> AsyncGenerator[list[Instance]]:
        found = _TABLE.select().where(*conditions).order_by(_TABLE.c.created_at, _TABLE.c.id)
        async with aclosing(self._database.pages(found)) as pages:
            async for rows in pages:
                yield [self._instance(row) for row in rows]

    async def _one(self, condition: ColumnElement[bool]) -> Instance | None:
        async with self._database.reading() as session:
            row = (await session.exec(select(InstanceRow).where(condition))).one_or_none()
            return None if row is None else self._instance(row)

    def _columns(self, fields: InstanceChanges) -> dict[str, Any]:
        columns: dict[str, Any] = dict(fields)
        if "status" in fields:
            columns["status"] = fields["status"].value
        if "model_provider" in fields:
            columns["model_provider"] = fields["model_provider"].value
        if (egress := fields.get("egress")) is not None:
            columns["egress"] = egress.value
        if "openclaw_config" in fields:
            del columns["openclaw_config"]
            columns["openclaw_config_ciphertext"] = self._sealed(fields["openclaw_config"])
        return columns

    def _sealed(self, config: Mapping[str, Any] | None) -> bytes | None:
        return None if config is None else seal(config, self._box)

    def _row(self, instance: Instance) -> InstanceRow:
        return InstanceRow(
            id=instance.id,
            organization_id=instance.organization_id,
            name=instance.name,
            status=instance.status.value,
            model_provider=instance.model_provider.value,
            sandbox_id=instance.sandbox_id,
            sandbox_provider=instance.sandbox_provider,
            openclaw_version=instance.openclaw_version,
            openclaw_config_ciphertext=self._sealed(instance.openclaw_config),
            region=instance.region,
            error_message=instance.error_message,
            gateway_url=instance.gateway_url,
            born_at=instance.born_at,
            created_at=instance.created_at,
            updated_at=instance.updated_at,
            egress=None if instance.egress is None else instance.egress.value,
            seed_snapshot_id=instance.seed_snapshot_id,
        )

    def _instance(self, row: InstanceRow | Row[Any]) -> Instance:
        ciphertext = row.openclaw_config_ciphertext
        return Instance(
            id=InstanceId(row.id),
            organization_id=OrganizationId(row.organization_id),
            name=row.name,
            status=InstanceStatus(row.status),
            model_provider=ModelProvider(row.model_provider),
            sandbox_id=SandboxId(row.sandbox_id),
            created_at=row.created_at,
            updated_at=row.updated_at,
            sandbox_provider=row.sandbox_provider,
            openclaw_version=row.openclaw_version,
            openclaw_config=None
            if ciphertext is None
            else EncryptedJson(ciphertext, self._box, f"The openclaw_config of instance {row.id}"),
            region=row.region,
            error_message=row.error_message,
            gateway_url=row.gateway_url,
            born_at=row.born_at,
            egress=None if row.egress is None else Egress(row.egress),
            seed_snapshot_id=None
            if row.seed_snapshot_id is None
            else SnapshotId(row.seed_snapshot_id),
        )


async def _claimed(session: AsyncSession, likeness: str, offered: SandboxId | None) -> Spare | None:
    is_ready = col(SpareRow.gateway_url).is_not(None)
    claimed = await session.exec(
        select(SpareRow)
        .where(SpareRow.likeness == likeness, is_ready | (col(SpareRow.sandbox_id) == offered))
        .order_by(is_ready.desc(), col(SpareRow.created_at), col(SpareRow.sandbox_id))
        .limit(1)
    )
    if (row := claimed.one_or_none()) is None:
        return None
    await session.delete(row)
    return Spare(SandboxId(row.sandbox_id), row.likeness, row.created_at, row.gateway_url)


def _batched(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for start in range(0, len(values), BATCH_SIZE):
        yield values[start : start + BATCH_SIZE]
