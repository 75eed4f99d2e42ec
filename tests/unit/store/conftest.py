"""A real store in a temporary directory, with an organization in it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import (
    ApiKey,
    Instance,
    InstanceId,
    InstanceStatus,
    KeyId,
    ModelProvider,
    Organization,
    OrganizationId,
    SandboxId,
    Tier,
)
from chowder_local.core.secrets import SecretBox
from chowder_local.store.database import Database
from chowder_local.store.instances import InstanceQueries
from chowder_local.store.organizations import OrganizationQueries
from tests.scripted.database import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlmodel.ext.asyncio.session import AsyncSession

NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)
BOX = SecretBox(b"s" * 32)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(empty_database(tmp_path)) as database:
        yield database


@pytest.fixture
def writes(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list with an entry for each writing transaction."""
    begun: list[None] = []
    writing = database.writing

    @asynccontextmanager
    async def counted(*, invalidates_caches: bool = True) -> AsyncIterator[AsyncSession]:
        begun.append(None)
        async with writing(invalidates_caches=invalidates_caches) as session:
            yield session

    monkeypatch.setattr(database, "writing", counted)
    return begun


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


@pytest.fixture
def instances(database: Database) -> InstanceQueries:
    return InstanceQueries(database, BOX)


@pytest.fixture
def make(organization: Organization) -> Callable[..., Instance]:
    def make(number: int, **fields: Any) -> Instance:
        at = organization.created_at + timedelta(seconds=number)
        instance = Instance(
            id=InstanceId(f"instance-{number}"),
            organization_id=organization.id,
            name=f"cook {number}",
            status=InstanceStatus.PROVISIONING,
            model_provider=ModelProvider.ANTHROPIC,
            sandbox_id=SandboxId(f"chowder-{number}"),
            created_at=at,
            updated_at=at,
        )
        return replace(instance, **fields)

    return make
