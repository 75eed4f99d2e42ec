"""API keys are found by their digest, valid or not."""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from chowder_local.core.domain import (
    ApiKey,
    InstanceId,
    KeyId,
    Permission,
)
from chowder_local.core.secrets import SCOPED_PREFIX, digest, new_key
from chowder_local.store.keys import KeyQueries

if TYPE_CHECKING:
    from chowder_local.core.domain import Organization
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


async def test_a_stored_key_is_read_unchanged(database: Database, key: ApiKey) -> None:
    await KeyQueries(database).add(key, "digest-2")
    assert await KeyQueries(database).by_digest("digest-2") == key


async def test_digests_are_compared_in_constant_time(
    database: Database, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lookups in SQLite's index and a dict may reveal a part of a digest, which does not reveal a
    # token of 256 random bits. The decision takes constant time.
    compared: list[tuple[str, str]] = []
    answers = iter([True, True, False])

    def compare(stored: str, given: str) -> bool:
        compared.append((stored, given))
        return next(answers)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    raw_key = new_key(SCOPED_PREFIX)
    keys = KeyQueries(database)
    await keys.add(key, digest(raw_key))
    # The key is read, then cached, and refused both times: only the comparison admits it.
    assert await keys.by_digest(digest(raw_key)) == key
    assert await keys.by_digest(digest(raw_key)) == key
    assert await keys.by_digest(digest(raw_key)) is None
    assert compared == [(digest(raw_key), digest(raw_key))] * 3
    assert {len(each) for pair in compared for each in pair} == {64}


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


async def test_a_key_for_a_missing_instance_is_not_stored(database: Database, key: ApiKey) -> None:
    keys = KeyQueries(database)
    with pytest.raises(IntegrityError):
        await keys.add(replace(key, grants={InstanceId("no"): frozenset(Permission)}), "digest-2")
    assert await keys.get(key.id) is None
