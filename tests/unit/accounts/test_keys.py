"""Scoped keys: their instances, expiry, and visibility."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.keys import Keys
from chowder_local.core.domain import (
    Instance,
    InstanceId,
    InstanceStatus,
    ModelProvider,
    OrganizationId,
    Permission,
    SandboxId,
)
from chowder_local.core.errors.requests import (
    InputInvalid,
    InstanceNotFound,
    KeyInvalid,
    KeyNotFound,
)
from chowder_local.core.secrets import digest
from tests.scripted.pages import all_of

if TYPE_CHECKING:
    from tests.unit.accounts.conftest import Accounts

READ, FILES = Permission.READ, Permission.FILES


@pytest.fixture
def keys(accounts: Accounts) -> Keys:
    return Keys(accounts.keys, accounts.instances, accounts.clock)


@pytest.fixture
async def organization_id(accounts: Accounts) -> OrganizationId:
    details, _ = await accounts.organizations.signup("Kitchen")
    return details.organization.id


async def placed(
    accounts: Accounts,
    organization_id: OrganizationId,
    number: int = 1,
    status: InstanceStatus = InstanceStatus.RUNNING,
) -> InstanceId:
    instance = Instance(
        id=InstanceId(f"instance-{number}"),
        organization_id=organization_id,
        name="Ada",
        status=status,
        model_provider=ModelProvider.ANTHROPIC,
        sandbox_id=SandboxId(f"sandbox-{number}"),
        created_at=accounts.clock.now,
        updated_at=accounts.clock.now,
    )
    await accounts.instances.add(instance, limit=None)
    return instance.id


async def test_a_new_key_has_each_permission_for_each_instance(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    one, two = [await placed(accounts, organization_id, number) for number in (1, 2)]
    key, raw_key = await keys.create(organization_id, "ci", [two, one, two], [FILES, READ, FILES])
    assert raw_key.startswith("chd_sk_")
    assert raw_key.startswith(key.prefix)
    caller = await accounts.authentication.caller(raw_key)
    assert (caller.key_id, caller.is_organization_key) == (key.id, False)
    assert caller.grants == {one: {READ, FILES}, two: {READ, FILES}}
    stored = await keys.get(organization_id, key.id)
    assert stored == replace(key, last_used_at=accounts.clock.now)


async def test_the_store_keeps_the_hash_and_not_the_token(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    instance_id = await placed(accounts, organization_id)
    key, raw_key = await keys.create(organization_id, "ci", [instance_id], [READ])
    assert await accounts.keys.by_digest(digest(raw_key)) == key
    with_log = [accounts.path, accounts.path.with_name(f"{accounts.path.name}-wal")]
    kept = b"".join(file.read_bytes() for file in with_log if file.exists())
    assert digest(raw_key).encode() in kept
    assert raw_key.encode() not in kept


@pytest.mark.parametrize("status", list(InstanceStatus))
async def test_every_living_instance_can_have_keys(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId, status: InstanceStatus
) -> None:
    instance_id = await placed(accounts, organization_id, status=status)
    if status is InstanceStatus.TERMINATED:
        with pytest.raises(InstanceNotFound):
            await keys.create(organization_id, "ci", [instance_id], [READ])
    else:
        assert await keys.create(organization_id, "ci", [instance_id], [READ])


async def test_a_key_for_an_instance_of_another_organization_is_refused(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    own = await placed(accounts, organization_id)
    details, _ = await accounts.organizations.signup("Cellar")
    foreign = await placed(accounts, details.organization.id, 2)
    for wrong in (foreign, "unknown", ""):
        with pytest.raises(InstanceNotFound):
            await keys.create(organization_id, "ci", [own, wrong], [READ])
    assert await all_of(keys.all(organization_id)) == []


async def test_a_key_is_inactive_after_its_expiry(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    instance_id = await placed(accounts, organization_id)
    expires_at = accounts.clock.now + timedelta(seconds=1)
    key, raw_key = await keys.create(organization_id, "ci", [instance_id], [READ], expires_at)
    assert (await keys.get(organization_id, key.id)).is_active
    accounts.clock.now = expires_at
    with pytest.raises(KeyInvalid):
        await accounts.authentication.caller(raw_key)
    (listed,) = await all_of(keys.all(organization_id))
    assert (listed.is_active, listed.expires_at) == (False, expires_at)
    assert not (await keys.get(organization_id, key.id)).is_active


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=1)])
async def test_an_expiry_in_the_past_is_refused(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId, ago: timedelta
) -> None:
    instance_id = await placed(accounts, organization_id)
    past = accounts.clock.now - ago
    with pytest.raises(InputInvalid) as refused:
        await keys.create(organization_id, "ci", [instance_id], [READ], past)
    assert refused.value.problems[0]["loc"] == ["body", "expires_at"]


async def test_a_revoked_key_stays_listed_and_is_invalid(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    instance_id = await placed(accounts, organization_id)
    key, raw_key = await keys.create(organization_id, "ci", [instance_id], [READ])
    assert (await accounts.authentication.caller(raw_key)).key_id == key.id
    for _ in range(2):
        await keys.revoke(organization_id, key.id)
        with pytest.raises(KeyInvalid):
            await accounts.authentication.caller(raw_key)
    assert [each.is_active for each in await all_of(keys.all(organization_id))] == [False]


async def test_an_organization_key_is_not_among_the_scoped_keys(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    raw_key = await accounts.authentication.issue(organization_id)
    own = (await accounts.authentication.caller(raw_key)).key_id
    assert await all_of(keys.all(organization_id)) == []
    with pytest.raises(KeyNotFound):
        await keys.get(organization_id, own)
    with pytest.raises(KeyNotFound):
        await keys.revoke(organization_id, own)
    assert (await accounts.authentication.caller(raw_key)).key_id == own


async def test_a_key_of_another_organization_is_not_found(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    details, _ = await accounts.organizations.signup("Cellar")
    other = details.organization.id
    instance_id = await placed(accounts, other)
    key, raw_key = await keys.create(other, "ci", [instance_id], [READ])
    for wrong in (key.id, "unknown"):
        with pytest.raises(KeyNotFound):
            await keys.get(organization_id, wrong)
        with pytest.raises(KeyNotFound):
            await keys.revoke(organization_id, wrong)
    assert (await accounts.authentication.caller(raw_key)).key_id == key.id


async def test_a_use_is_visible_at_once_and_a_refused_request_is_no_use(
    accounts: Accounts, keys: Keys, organization_id: OrganizationId
) -> None:
    instance_id = await placed(accounts, organization_id)
    key, raw_key = await keys.create(organization_id, "ci", [instance_id], [READ])

    async def last_use() -> Any:
        (listed,) = await all_of(keys.all(organization_id))
        return listed.last_used_at

    assert await last_use() is None
    await accounts.authentication.caller(raw_key)
    used_at = accounts.clock.now
    assert await last_use() == used_at
    await keys.revoke(organization_id, key.id)
    accounts.clock.now += timedelta(minutes=1)
    with pytest.raises(KeyInvalid):
        await accounts.authentication.caller(raw_key)
    assert await last_use() == used_at
