"""A real store in a temporary directory, with an organization in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import ApiKey, KeyId, Organization, OrganizationId, Tier
from chowder_local.store.database import Database
from chowder_local.store.organizations import OrganizationQueries
from tests.scripted.database import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(empty_database(tmp_path)) as database:
        yield database


@pytest.fixture
async def organization(database: Database) -> Organization:
    organization = Organization(
        id=OrganizationId("org-1"), name="Kitchen", tier=Tier.CRAB, created_at=NOW, updated_at=NOW
    )
    key = ApiKey(
        id=KeyId("key-1"),
        organization_id=organization.id,
        name="default",
        prefix="chd_org_abcd",
        created_at=NOW,
    )
    await OrganizationQueries(database).add(organization, key, "digest-1", {})
    return organization
