"""Queries on organizations and their model keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlmodel import col, select

from chowder_local.core.domain import ModelProvider, Organization
from chowder_local.store.database import ReadCache
from chowder_local.store.instances import count_living
from chowder_local.store.keys import row_of_key
from chowder_local.store.tables import ModelKeyRow, OrganizationRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlmodel.ext.asyncio.session import AsyncSession

    from chowder_local.core.domain import ApiKey, OrganizationId, Tier
    from chowder_local.store.database import Database


@dataclass(eq=False, repr=False)
class OrganizationQueries:
    """Queries on organizations and their model keys, which are encrypted here."""

    database: Database

    def __post_init__(self) -> None:
        self._model_keys = ReadCache[bytes](self.database)

    async def add(
        self,
        organization: Organization,
        key: ApiKey,
        key_digest: str,
        model_keys: Mapping[ModelProvider, bytes | None],
    ) -> None:
        """Adds an organization with its first key and model keys in one transaction."""
        async with self.database.writing() as session:
            session.add(OrganizationRow(**vars(organization)))
            # Rows refer to each other by id only, so the code has to order the inserts.
            await session.flush()
            session.add(row_of_key(key, key_digest))
            await _put_model_keys(session, organization.id, model_keys)

    async def get(self, organization_id: OrganizationId) -> Organization | None:
        """The organization, including the providers for which it has keys."""
        async with self.database.reading() as session:
            return await _organization(session, organization_id)

    async def instance_count(self, organization_id: OrganizationId) -> int:
        """How many of its instances are not terminated."""
        async with self.database.reading() as session:
            return await count_living(session, organization_id)

    async def model_key(
        self, organization_id: OrganizationId, provider: ModelProvider
    ) -> bytes | None:
        """The ciphertext of a model key."""
        identity = (organization_id, provider)

        async def read() -> bytes | None:
            async with self.database.reading() as session:
                row = await session.get(ModelKeyRow, identity)
                return None if row is None else row.ciphertext

        return await self._model_keys.get(identity, read)

    async def change(
        self,
        organization_id: OrganizationId,
        *,
        name: str | None,
        model_keys: Mapping[ModelProvider, bytes | None],
        now: datetime,
    ) -> Organization | None:
        """Changes the name and the given model keys; None removes a key."""
        async with self.database.writing() as session:
            row = await session.get(OrganizationRow, organization_id)
            if row is None:
                return None
            if name is not None:
                row.name = name
            row.updated_at = now
            await _put_model_keys(session, organization_id, model_keys)
            await session.flush()
            return await _organization(session, organization_id)

    async def set_reuse(
        self, organization_id: OrganizationId, *, reuses_sandboxes: bool, now: datetime
    ) -> Organization | None:
        """Sets whether new instances may get the sandboxes of deleted ones."""
        async with self.database.writing() as session:
            row = await session.get(OrganizationRow, organization_id)
            if row is None:
                return None
            row.reuses_sandboxes = reuses_sandboxes
            row.updated_at = now
            await session.flush()
            return await _organization(session, organization_id)

    async def subscribe(
        self,
        organization_id: OrganizationId,
        tier: Tier,
        *,
        customer_id: str | None,
        subscription_id: str | None,
        now: datetime,
    ) -> Organization | None:
        """Moves an organization to a tier. Existing customer and subscription ids stay.

        Without a `subscription_id`, it has no subscription afterwards.
        """
        async with self.database.writing() as session:
            row = await session.get(OrganizationRow, organization_id)
            if row is None:
                return None
            row.tier = tier
            row.stripe_customer_id = row.stripe_customer_id or customer_id
            row.stripe_subscription_id = subscription_id and (
                row.stripe_subscription_id or subscription_id
            )
            row.updated_at = now
            await session.flush()
            return await _organization(session, organization_id)


async def _put_model_keys(
    session: AsyncSession,
    organization_id: OrganizationId,
    model_keys: Mapping[ModelProvider, bytes | None],
) -> None:
    for provider, ciphertext in model_keys.items():
        if ciphertext is None:
            row = await session.get(ModelKeyRow, (organization_id, provider))
            if row is not None:
                await session.delete(row)
        else:
            key = ModelKeyRow(
                organization_id=organization_id, provider=provider, ciphertext=ciphertext
            )
            await session.merge(key)


async def _organization(
    session: AsyncSession, organization_id: OrganizationId
) -> Organization | None:
    row = await session.get(OrganizationRow, organization_id)
    if row is None:
        return None
    providers = await session.exec(
        select(ModelKeyRow.provider)
        .where(ModelKeyRow.organization_id == organization_id)
        .order_by(col(ModelKeyRow.provider))
    )
    return Organization(**row.model_dump(), model_providers=tuple(map(ModelProvider, providers)))
