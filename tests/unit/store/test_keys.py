"""API keys are found by digest, good ones and others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from chowder_local.domain import ApiKey, KeyId
from chowder_local.store.keys import KeyQueries

if TYPE_CHECKING:
    from chowder_local.domain import Organization
    from chowder_local.store.database import Database


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    now = organization.created_at
    return ApiKey(
        id=KeyId("key-2"),
        organization_id=organization.id,
        name="ci",
        prefix="chd_sk_abcde",
        created_at=now,
        is_active=False,
        expires_at=now + timedelta(days=1),
        last_used_at=now + timedelta(hours=1),
        is_organization_key=False,
    )


async def test_a_key_comes_back_as_it_was_put(database: Database, key: ApiKey) -> None:
    await KeyQueries(database).add(key, "digest-2")
    assert await KeyQueries(database).by_digest("digest-2") == key


async def test_an_unknown_digest_finds_nothing(database: Database) -> None:
    assert await KeyQueries(database).by_digest("digest-2") is None


async def test_a_key_added_after_a_miss_is_found(database: Database, key: ApiKey) -> None:
    keys = KeyQueries(database)
    assert await keys.by_digest("digest-2") is None
    await keys.add(key, "digest-2")
    assert await keys.by_digest("digest-2") == key


async def test_two_keys_never_share_a_digest(database: Database, key: ApiKey) -> None:
    keys = KeyQueries(database)
    await keys.add(key, "digest-2")
    with pytest.raises(IntegrityError):
        await keys.add(replace(key, id=KeyId("key-3")), "digest-2")
