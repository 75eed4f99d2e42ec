"""Queries on instances; every change of a status is a compare-and-set."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from sqlmodel import col, delete, func, select, tuple_

from chowder_local.core.domain import AgentClock, Instance, InstanceId, InstanceStatus, SandboxId
from chowder_local.core.errors.requests import InstanceLimitReached
from chowder_local.core.events import Events, EventType
from chowder_local.store.database import ReadCache
from chowder_local.store.tables import (
    METADATA,
    EncryptedJson,
    InstanceRow,
    KeyGrantRow,
    content_tables,
    encrypt_json,
)
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
    from chowder_local.store.tables import Table

_LIVING = tuple(status for status in InstanceStatus if status is not InstanceStatus.TERMINATED)
"""For queries without a selective condition: SQLite's indexes support IN, but not <>."""
_IS_LIVING = col(InstanceRow.status) != InstanceStatus.TERMINATED
"""For queries by id: it keeps SQLite from choosing an index on the status."""
BATCH_SIZE = 500
"""The number of values in one statement, which SQLite limits."""
_TABLE = METADATA.tables["instance"]
_NO_CONTENT = {
    "openclaw_config_ciphertext": None,
    "error_message": None,
    "origin_snapshot_id": None,
}

Value = TypeVar("Value")


class InstanceChanges(TypedDict, total=False):
    """The fields of an instance that can change."""

    name: str
    status: InstanceStatus
    openclaw_config: Mapping[str, Any] | None
    error_message: str | None
    gateway_url: str | None
    first_ready_at: datetime | None
    egress: Egress | None
    model_provider: ModelProvider
    origin_snapshot_id: SnapshotId | None
    may_hibernate: bool
    openclaw_version: str
    clock: AgentClock | None
    switched_off_jobs: Collection[str]


class RowChanges(InstanceChanges, total=False):
    """As well, the sandbox of an instance whose home has moved."""

    sandbox_id: SandboxId


@dataclass(eq=False, repr=False)
class InstanceQueries:
    """Queries on instances, including terminated ones. Changes of a status publish events."""

    database: Database
    secret_box: SecretBox
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        self._read_cache = ReadCache[Instance](self.database)

    async def add(
        self,
        instance: Instance,
        limit: int | None,
        fingerprint: str | None = None,
        booting: Collection[SandboxId] = (),
    ) -> tuple[Instance, WarmSandbox | None]:
        """Adds an instance, and claims a warm sandbox of the fingerprint, or a booting one.

        Raises InstanceLimitReached if the organization has `limit` living instances. All of it is
        one transaction, so that racing calls cannot exceed the limit or claim a sandbox twice.
        """
        async with self.database.writing() as session:
            if limit is not None:
                count = await count_living(session, instance.organization_id)
                if count >= limit:
                    raise InstanceLimitReached(count, limit)
            claimed = await claim(session, instance, fingerprint, booting)
            if claimed is not None:
                instance = replace(instance, sandbox_id=claimed.sandbox_id)
            session.add(InstanceRow(**self._columns(vars(instance))))
        self._publish(instance, None, claimed)
        return instance, claimed

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """The instance in any status."""
        return await self._read_cache.get(
            instance_id, lambda: self._one(col(InstanceRow.id) == instance_id)
        )

    async def by_sandbox(self, sandbox_id: SandboxId) -> Instance | None:
        """The instance that owns or owned a sandbox."""
        return await self._read_cache.get(
            ("sandbox", sandbox_id), lambda: self._one(col(InstanceRow.sandbox_id) == sandbox_id)
        )

    async def owners(self, sandbox_ids: Collection[SandboxId]) -> list[Instance]:
        """The living instances that own the sandboxes."""
        rows = await self._living(select(InstanceRow), col(InstanceRow.sandbox_id), sandbox_ids)
        return [self._instance(row.model_dump()) for row in rows]

    async def owned(self, sandbox_ids: Collection[SandboxId]) -> set[SandboxId]:
        """The sandboxes that living instances own; there may be thousands."""
        sandbox_id = col(InstanceRow.sandbox_id)
        owned = await self._living(select(sandbox_id), sandbox_id, sandbox_ids)
        return {SandboxId(each) for each in owned}

    def of_organization(self, organization_id: OrganizationId) -> AsyncGenerator[list[Instance]]:
        """Its living instances in pages, oldest first; close the iterator to stop early."""
        return self._pages(
            col(InstanceRow.organization_id) == organization_id,
            col(InstanceRow.status).in_(_LIVING),
        )

    def of_key(self, key_id: KeyId) -> AsyncGenerator[list[Instance]]:
        """The living instances that a scoped key opens, in pages like `of_organization`."""
        granted = select(KeyGrantRow.instance_id).where(KeyGrantRow.key_id == key_id)
        return self._pages(col(InstanceRow.id).in_(granted), _IS_LIVING)

    async def has_all(
        self, organization_id: OrganizationId, instance_ids: Collection[InstanceId]
    ) -> bool:
        """Whether these distinct ids all belong to living instances of the organization."""
        owner = select(InstanceRow.organization_id)
        owners = await self._living(owner, col(InstanceRow.id), instance_ids)
        return owners == [organization_id] * len(instance_ids)

    async def running_or_provisioning(self) -> list[Instance]:
        """The running and provisioning instances, oldest first."""
        statuses = (InstanceStatus.RUNNING, InstanceStatus.PROVISIONING)
        query = select(InstanceRow).where(col(InstanceRow.status).in_(statuses))
        return await self._list(query.order_by(col(InstanceRow.created_at), col(InstanceRow.id)))

    async def running(self) -> dict[InstanceId, SandboxId]:
        """The sandbox of each running instance that is in memory."""
        async with self.database.reading() as session:
            rows = await session.exec(
                select(InstanceRow.id, InstanceRow.sandbox_id).where(
                    InstanceRow.status == InstanceStatus.RUNNING,
                    col(InstanceRow.gateway_url).is_not(None),
                )
            )
            return {InstanceId(each): SandboxId(sandbox) for each, sandbox in rows}

    async def ids_of(
        self, organization_id: OrganizationId, name: str, among: Collection[InstanceId] | None
    ) -> list[InstanceId]:
        """The ids of at most three living instances with a name; of those in `among`, if given."""
        query = select(InstanceRow).where(
            InstanceRow.organization_id == organization_id, InstanceRow.name == name, _IS_LIVING
        )
        if among is not None:
            query = query.where(col(InstanceRow.id).in_(among))
        return [each.id for each in await self._list(query.limit(3))]

    async def search(
        self,
        organization_id: OrganizationId,
        *,
        text: str = "",
        status: InstanceStatus | None = None,
        after: Instance | None = None,
        limit: int,
    ) -> list[Instance]:
        """Its living instances with the text in their name or at the start of their id.

        The newest is first. `after` is the last instance of the page before.
        """
        statuses = _LIVING if status is None else (status,)
        query = select(InstanceRow).where(
            InstanceRow.organization_id == organization_id, col(InstanceRow.status).in_(statuses)
        )
        if text:
            query = query.where(
                col(InstanceRow.name).contains(text, autoescape=True)
                | col(InstanceRow.id).startswith(text, autoescape=True)
            )
        order = (col(InstanceRow.created_at), col(InstanceRow.id))
        if after is not None:
            query = query.where(tuple_(*order) < (after.created_at, after.id))
        newest_first = (each.desc() for each in order)
        return await self._list(query.order_by(*newest_first).limit(limit))

    async def change(
        self,
        instance_id: InstanceId,
        *,
        only_from: Collection[InstanceStatus] | None = None,
        now: datetime,
        **fields: Unpack[RowChanges],
    ) -> Instance | None:
        """The changed instance; None if it is gone or in none of the statuses `only_from`.

        A terminated one loses its content. Of calls that race from the same status, only one gets
        the instance.
        """
        async with self.database.writing() as session:
            row = await session.get(InstanceRow, instance_id)
            if row is None or not (only_from is None or row.status in only_from):
                return None
            before = row.status, row.error_message
            was_in_memory = row.gateway_url is not None
            row.sqlmodel_update(self._columns({**fields, "updated_at": now}))
            if row.status is InstanceStatus.TERMINATED:
                row.sqlmodel_update(_NO_CONTENT)
                await session.flush()
                await erase_deleted(session, {instance_id})
            changed = self._instance(row.model_dump())
        if before != (changed.status, changed.error_message):
            self._publish(changed, before[0])
        elif changed.status is InstanceStatus.RUNNING and was_in_memory != changed.is_in_memory:
            left, back = EventType.INSTANCE_HIBERNATED, EventType.INSTANCE_RESUMED
            self.events.publish(
                back if changed.is_in_memory else left,
                changed.organization_id,
                changed.id,
                sandbox_id=changed.sandbox_id,
            )
        return changed

    async def replace_sandbox(
        self,
        former: Instance,
        sandbox_id: SandboxId,
        *,
        fingerprint: str | None,
        booting: Collection[SandboxId],
        now: datetime,
        **fields: Unpack[InstanceChanges],
    ) -> tuple[Instance, WarmSandbox | None] | None:
        """Sets the instance to `provisioning` in another sandbox: a warm one, if any fits.

        None if the status has changed. Nothing owns the former sandbox afterwards.
        """
        async with self.database.writing() as session:
            row = await session.get(InstanceRow, former.id)
            if row is None or row.status is not former.status:
                return None
            claimed = await claim(session, former, fingerprint, booting)
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
        """The number of instances in each status; of one organization, of the living ones only."""
        query = select(InstanceRow.status, func.count()).group_by(col(InstanceRow.status))
        if organization_id is not None:
            query = query.where(
                InstanceRow.organization_id == organization_id,
                col(InstanceRow.status).in_(_LIVING),
            )
        async with self.database.reading() as session:
            rows = await session.exec(query)
            counts = dict(rows.all())
            return {status: counts.get(status, 0) for status in InstanceStatus}

    async def hibernated_count(self) -> int:
        """The number of instances that run without being in memory."""
        query = select(func.count()).where(
            InstanceRow.status == InstanceStatus.RUNNING, col(InstanceRow.gateway_url).is_(None)
        )
        async with self.database.reading() as session:
            return (await session.exec(query)).one()

    def _publish(
        self, instance: Instance, before: str | None, claimed: WarmSandbox | None = None
    ) -> None:
        owner = (instance.organization_id, instance.id)
        if claimed is not None:
            self.events.publish(
                EventType.WARM_SANDBOX_CLAIMED, *owner, sandbox_id=claimed.sandbox_id
            )
        self.events.publish(
            EventType.INSTANCE_STATUS,
            *owner,
            status=instance.status,
            before=before,
            error_message=instance.error_message,
        )

    async def _living(
        self, query: SelectOfScalar[Value], column: Mapped[str], values: Collection[str]
    ) -> list[Value]:
        """The results of a query on the living instances with one of the column's values."""
        ordered, results = sorted(values), list[Value]()
        async with self.database.reading() as session:
            for start in range(0, len(ordered), BATCH_SIZE):
                batch = ordered[start : start + BATCH_SIZE]
                results += await session.exec(query.where(column.in_(batch), _IS_LIVING))
        return results

    async def _pages(self, *conditions: ColumnElement[bool]) -> AsyncGenerator[list[Instance]]:
        query = _TABLE.select().where(*conditions).order_by(_TABLE.c.created_at, _TABLE.c.id)
        async with aclosing(self.database.pages(query)) as pages:
            async for rows in pages:
                yield [self._instance(fields) for fields in rows]

    async def _one(self, condition: ColumnElement[bool]) -> Instance | None:
        instances = await self._list(select(InstanceRow).where(condition))
        return instances[0] if instances else None

    async def _list(self, query: SelectOfScalar[InstanceRow]) -> list[Instance]:
        async with self.database.reading() as session:
            rows = await session.exec(query)
            return [self._instance(row.model_dump()) for row in rows]

    def _columns(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        columns = dict(fields)
        if "openclaw_config" in columns:
            config = columns.pop("openclaw_config")
            ciphertext = None if config is None else encrypt_json(config, self.secret_box)
            columns["openclaw_config_ciphertext"] = ciphertext
        if (clock := columns.get("clock")) is not None:
            columns["clock"] = asdict(clock)
        if "switched_off_jobs" in columns:
            columns["switched_off_jobs"] = sorted(columns["switched_off_jobs"]) or None
        return columns

    def _instance(self, fields: dict[str, Any]) -> Instance:
        if (ciphertext := fields.pop("openclaw_config_ciphertext")) is not None:
            name = f"The openclaw_config of instance {fields['id']}"
            fields["openclaw_config"] = EncryptedJson(ciphertext, self.secret_box, name)
        if (clock := fields["clock"]) is not None:
            fields["clock"] = AgentClock(**clock)
        fields["switched_off_jobs"] = frozenset(fields["switched_off_jobs"] or ())
        return Instance(**fields)


async def erase_deleted(
    session: AsyncSession,
    instance_ids: Collection[str],
    rows: Collection[type[Table]] = (),
) -> None:
    """Deletes the rows that belong to those of the instances that are terminated, of all tables
    or these.

    What writes such rows calls it, too: its instance may have been deleted meanwhile.
    """
    names = [str(each.__tablename__) for each in rows]
    tables = [METADATA.tables[each] for each in names] or content_tables()
    deleted = select(InstanceRow.id).where(
        col(InstanceRow.id).in_(instance_ids), col(InstanceRow.status).not_in(_LIVING)
    )
    for table in tables:
        await session.exec(delete(table).where(table.c.instance_id.in_(deleted)))


async def count_living(session: AsyncSession, organization_id: str) -> int:
    """The number of instances of an organization that are not terminated."""
    query = select(func.count()).where(
        InstanceRow.organization_id == organization_id, col(InstanceRow.status).in_(_LIVING)
    )
    return (await session.exec(query)).one()
