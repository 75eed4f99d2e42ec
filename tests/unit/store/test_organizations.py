"""Organizations and their model keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import IntegrityError

from chowder_local.core.domain import ApiKey, KeyId, ModelProvider, OrganizationId, Tier
from chowder_local.store.keys import KeyQueries
from chowder_local.store.organizations import OrganizationQueries
from tests.unit.store.conftest import NOW

if TYPE_CHECKING:
    from chowder_local.core.domain import Organization
    from chowder_local.store.database import Database

LATER = NOW + timedelta(hours=1)
ANTHROPIC, OPENAI, GEMINI = ModelProvider.ANTHROPIC, ModelProvider.OPENAI, ModelProvider.GEMINI


@pytest.fixture
def queries(database: Database) -> OrganizationQueries:
    return OrganizationQueries(database)


async def test_a_stored_organization_is_read_unchanged(
    queries: OrganizationQueries, organization: Organization
) -> None:
    assert await queries.get(organization.id) == organization
    assert await queries.get(OrganizationId("other")) is None


async def test_an_organization_and_its_keys_are_added_atomically(
    database: Database, queries: OrganizationQueries, organization: Organization
) -> None:
    other = replace(organization, id=OrganizationId("org-2"))
    key = ApiKey(
        id=KeyId("key-2"),
        organization_id=other.id,
        name="default",
        prefix="chd_org_efgh",
        created_at=other.created_at,
    )
    with pytest.raises(IntegrityError):
        await queries.add(other, key, "digest-1", {OPENAI: b"x"})
    assert await queries.get(other.id) is None
    await queries.add(other, key, "digest-2", {OPENAI: b"x", ANTHROPIC: b"y"})
    assert await queries.get(other.id) == replace(other, model_providers=(ANTHROPIC, OPENAI))
    assert await KeyQueries(database).by_digest("digest-2") == key
    assert await queries.model_key(other.id, OPENAI) == b"x"


async def test_a_subscription_keeps_its_ids_until_it_ends(
    database: Database, organization: Organization
) -> None:
    queries = OrganizationQueries(database)

    async def moved(tier: Tier, customer: str | None, subscription: str | None) -> Any:
        changed = await queries.subscribe(
            organization.id, tier, customer_id=customer, subscription_id=subscription, now=LATER
        )
        assert changed == await queries.get(organization.id)
        assert changed is not None
        assert changed.updated_at == LATER
        return changed.tier, changed.stripe_customer_id, changed.stripe_subscription_id

    assert await moved(Tier.CRAB, "cus-1", "sub-1") == (Tier.CRAB, "cus-1", "sub-1")
    assert await moved(Tier.LOBSTER, "cus-2", "sub-2") == (Tier.LOBSTER, "cus-1", "sub-1")
    assert await moved(Tier.SHRIMP, "cus-3", None) == (Tier.SHRIMP, "cus-1", None)
    assert await moved(Tier.WHALE, "cus-4", "sub-4") == (Tier.WHALE, "cus-1", "sub-4")
