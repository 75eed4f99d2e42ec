"""Scoped keys: their instances, expiry, and visibility."""

from __future__ import annotations

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
    KeyInvalid,
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
