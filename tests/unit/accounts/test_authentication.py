"""A valid key identifies its caller."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.keys import organization_key
from chowder_local.core.domain import ApiKey, Caller
from chowder_local.core.errors.requests import KeyInvalid, KeyMissing
from chowder_local.core.secrets import digest

if TYPE_CHECKING:
    from chowder_local.core.domain import OrganizationId


@pytest.fixture
async def organization_id(accounts: Any) -> OrganizationId:
    details, _ = await accounts.organizations.signup("Kitchen")
    organization_id: OrganizationId = details.organization.id
    return organization_id


async def added(
    accounts: Any, organization_id: OrganizationId, **fields: Any
) -> tuple[ApiKey, str]:
    key, raw_key = organization_key(organization_id, accounts.clock())
    key = replace(key, **fields)
    await accounts.keys.add(key, digest(raw_key))
    return key, raw_key


@pytest.mark.parametrize("raw_key", [None, ""])
async def test_no_key_is_missing(accounts: Any, raw_key: str | None) -> None:
    with pytest.raises(KeyMissing):
        await accounts.authentication.caller(raw_key)


@pytest.mark.parametrize("raw_key", ["chd_org_x", "Ærø", "a" * 100_000, "' OR 1=1 --"])
async def test_an_unknown_key_is_invalid(
    accounts: Any, organization_id: OrganizationId, raw_key: str
) -> None:
    with pytest.raises(KeyInvalid):
        await accounts.authentication.caller(raw_key)


async def test_a_valid_key_identifies_the_caller(
    accounts: Any, organization_id: OrganizationId
) -> None:
    key, raw_key = await added(accounts, organization_id)
    expected = Caller(organization_id, key.id, is_organization_key=True)
    assert await accounts.authentication.caller(raw_key) == expected
    scoped, raw_key = await added(accounts, organization_id, is_organization_key=False)
    expected = Caller(organization_id, scoped.id, is_organization_key=False)
    assert await accounts.authentication.caller(raw_key) == expected


async def test_a_key_one_character_off_is_invalid(
    accounts: Any, organization_id: OrganizationId
) -> None:
    _, raw_key = await added(accounts, organization_id)
    for wrong in (raw_key[:-1], raw_key + "x", raw_key.upper(), f" {raw_key}"):
        with pytest.raises(KeyInvalid):
            await accounts.authentication.caller(wrong)


async def test_a_revoked_key_is_invalid(accounts: Any, organization_id: OrganizationId) -> None:
    _, raw_key = await added(accounts, organization_id, is_active=False)
    with pytest.raises(KeyInvalid):
        await accounts.authentication.caller(raw_key)


async def test_a_key_is_valid_until_it_expires(
    accounts: Any, organization_id: OrganizationId
) -> None:
    expires_at = accounts.clock() + timedelta(hours=1)
    _, raw_key = await added(accounts, organization_id, expires_at=expires_at)
    accounts.clock.now = expires_at - timedelta(microseconds=1)
    assert await accounts.authentication.caller(raw_key)
    accounts.clock.now = expires_at
    with pytest.raises(KeyInvalid):
        await accounts.authentication.caller(raw_key)


async def test_an_issued_key_is_a_valid_organization_key(
    accounts: Any, organization_id: OrganizationId
) -> None:
    raw_key = await accounts.authentication.issue(organization_id)
    assert raw_key.startswith("chd_org_")
    caller = await accounts.authentication.caller(raw_key)
    assert (caller.organization_id, caller.is_organization_key) == (organization_id, True)
