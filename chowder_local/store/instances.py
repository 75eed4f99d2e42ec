"""What is asked and told about instances; every change of status is a compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sqlmodel import col, func, select

from chowder_local.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    SandboxId,
)
from chowder_local.errors.requests import InstanceLimitReached
from chowder_local.store.recall import Recall
from chowder_local.store.tables import InstanceRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from chowder_local.store.database import Database

LIVING = tuple(status.value for status in InstanceStatus if status is not InstanceStatus.TERMINATED)
"""As a list, not as "is not terminated": SQLite's indexes serve IN and do not serve <>."""


class InstanceChanges(TypedDict, total=False):
    """What of an instance can change."""

    name: str
    status: InstanceStatus
    openclaw_config: Mapping[str, Any] | None
    error_message: str | None
    gateway_url: str | None
    born_at: datetime | None


class InstanceQueries:
    """Instances, the terminated ones too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recall = Recall[Instance](database)

    async def add(self, instance: Instance, limit: int | None) -> None:
        """Keeps a new instance, unless its organization has `limit` living ones already.

        Raises InstanceLimitReached. Count and insert are one transaction, so that racing calls
        cannot pass the limit together.
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
            session.add(_row(instance))

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """The instance, in whatever status."""
        return await self._recall.of(
            instance_id, lambda: self._one(col(InstanceRow.id) == instance_id)
        )

    async def by_sandbox(self, sandbox_id: SandboxId) -> Instance | None:
        """The instance that a sandbox belongs or belonged to."""
        return await self._recall.of(
            ("sandbox", sandbox_id), lambda: self._one(col(InstanceRow.sandbox_id) == sandbox_id)
        )

    async def of_organization(self, organization_id: OrganizationId) -> list[Instance]:
        """Its living instances, oldest first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(InstanceRow)
                .where(
                    InstanceRow.organization_id == organization_id,
                    col(InstanceRow.status).in_(LIVING),
                )
                .order_by(col(InstanceRow.created_at), col(InstanceRow.id))
            )
            return [_instance(row) for row in rows]

    async def living(self) -> list[Instance]:
        """Every instance that is not terminated, oldest first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(InstanceRow)
                .where(col(InstanceRow.status).in_(LIVING))
                .order_by(col(InstanceRow.created_at), col(InstanceRow.id))
            )
            return [_instance(row) for row in rows]

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
            for name, value in _columns(fields).items():
                setattr(row, name, value)
            row.updated_at = now
            return _instance(row)

    async def counts(self) -> dict[InstanceStatus, int]:
        """How many instances are in each status, those without any included."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(InstanceRow.status, func.count()).group_by(col(InstanceRow.status))
            )
            counted = {InstanceStatus(status): count for status, count in rows}
            return {status: counted.get(status, 0) for status in InstanceStatus}

    async def _one(self, condition: ColumnElement[bool]) -> Instance | None:
        async with self._database.reading() as session:
            row = (await session.exec(select(InstanceRow).where(condition))).one_or_none()
            return None if row is None else _instance(row)


def _columns(fields: InstanceChanges) -> dict[str, Any]:
    columns: dict[str, Any] = dict(fields)
    if "status" in fields:
        columns["status"] = fields["status"].value
    if fields.get("openclaw_config") is not None:
        columns["openclaw_config"] = dict(columns["openclaw_config"])
    return columns


def _row(instance: Instance) -> InstanceRow:
    config = instance.openclaw_config
    return InstanceRow(
        id=instance.id,
        organization_id=instance.organization_id,
        name=instance.name,
        status=instance.status.value,
        model_provider=instance.model_provider.value,
        sandbox_id=instance.sandbox_id,
        sandbox_provider=instance.sandbox_provider,
        openclaw_version=instance.openclaw_version,
        openclaw_config=None if config is None else dict(config),
        region=instance.region,
        error_message=instance.error_message,
        gateway_url=instance.gateway_url,
        born_at=instance.born_at,
        created_at=instance.created_at,
        updated_at=instance.updated_at,
    )


def _instance(row: InstanceRow) -> Instance:
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
        openclaw_config=row.openclaw_config,
        region=row.region,
        error_message=row.error_message,
        gateway_url=row.gateway_url,
        born_at=row.born_at,
    )
