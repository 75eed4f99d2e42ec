"""The default organization exists after every start, whatever was lost before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.bootstrap import META_NAME, ensure_default
from chowder_local.core.domain import ModelProvider, OrganizationId, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ANTHROPIC, OPENAI, GEMINI = ModelProvider.ANTHROPIC, ModelProvider.OPENAI, ModelProvider.GEMINI
OFFLINE = dict.fromkeys(ModelProvider, "offline")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "default.key"


async def start(
    accounts: Any,
    key_file: Path,
    model_keys: Mapping[ModelProvider, str] = OFFLINE,
    offline: bool = False,
    tier: Tier | None = None,
) -> OrganizationId:
    """Starts, checks the key in the file, and returns its organization."""
    await ensure_default(
        accounts.organizations,
        key_file,
        model_keys,
        accounts.meta,
        accounts.authentication,
        offline=offline,
        tier=tier,
    )
    caller = await accounts.authentication.caller(key_file.read_text())
    assert caller.is_organization_key
    organization_id: OrganizationId = caller.organization_id
    return organization_id


async def keys(accounts: Any, organization_id: OrganizationId) -> dict[ModelProvider, str | None]:
    return {
        provider: await accounts.organizations.model_key(organization_id, provider)
        for provider in ModelProvider
    }


async def test_the_first_start_creates_a_whale_and_a_private_key_file(
    accounts: Any, key_file: Path
) -> None:
    organization_id = await start(accounts, key_file, OFFLINE | {OPENAI: "sk-o"})
    details = await accounts.organizations.details(organization_id)
    assert (details.organization.name, details.organization.tier) == ("default", Tier.WHALE)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert await keys(accounts, organization_id) == OFFLINE | {OPENAI: "sk-o"}


async def test_a_later_start_keeps_organization_and_key(accounts: Any, key_file: Path) -> None:
    first = await start(accounts, key_file)
    raw_key = key_file.read_text()
    assert await start(accounts, key_file) == first
    assert key_file.read_text() == raw_key


async def test_a_changed_key_in_the_environment_takes_effect(accounts: Any, key_file: Path) -> None:
    organization_id = await start(accounts, key_file, OFFLINE | {OPENAI: "sk-old"})
    await start(accounts, key_file, OFFLINE | {OPENAI: "sk-new"})
    assert await keys(accounts, organization_id) == OFFLINE | {OPENAI: "sk-new"}


async def test_a_key_set_through_the_api_survives_a_start_without_one(
    accounts: Any, key_file: Path
) -> None:
    organization_id = await start(accounts, key_file)
    await accounts.organizations.change(
        organization_id, model_api_keys={ANTHROPIC: "sk-mine", GEMINI: ""}
    )
    await start(accounts, key_file)
    expected = {ANTHROPIC: "sk-mine", OPENAI: "offline", GEMINI: None}
    assert await keys(accounts, organization_id) == expected


async def test_a_start_with_offline_replaces_all_keys(accounts: Any, key_file: Path) -> None:
    organization_id = await start(accounts, key_file, OFFLINE | {OPENAI: "sk-o"})
    await start(accounts, key_file, OFFLINE, offline=True)
    assert await keys(accounts, organization_id) == OFFLINE


@pytest.mark.parametrize("content", [None, b"", b"chd_org_unknown", b"\xff\xfe"])
async def test_a_missing_or_damaged_key_file_gets_a_new_key_of_the_same_organization(
    accounts: Any, key_file: Path, content: bytes | None
) -> None:
    first = await start(accounts, key_file)
    old_key = key_file.read_text()
    if content is None:
        key_file.unlink()
    else:
        key_file.write_bytes(content)
    assert await start(accounts, key_file) == first
    assert key_file.read_text() != old_key
    # A script may still use the key that was in the file.
    assert (await accounts.authentication.caller(old_key)).organization_id == first


async def test_another_organizations_key_in_the_file_is_replaced(
    accounts: Any, key_file: Path
) -> None:
    first = await start(accounts, key_file)
    _, other_key = await accounts.organizations.signup("Other")
    key_file.write_text(other_key)
    assert await start(accounts, key_file) == first


async def test_a_key_file_of_a_lost_database_gets_a_key_of_the_new_one(
    accounts: Any, key_file: Path
) -> None:
    key_file.write_text("chd_org_of_the_lost_one")
    await start(accounts, key_file)
    assert key_file.read_text() != "chd_org_of_the_lost_one"


async def test_a_crash_after_the_id_was_stored_creates_no_second_organization(
    accounts: Any, key_file: Path
) -> None:
    await accounts.meta.put(META_NAME, "decided-before-the-crash")
    assert await start(accounts, key_file) == "decided-before-the-crash"


async def test_a_start_after_a_crash_before_the_key_was_written_writes_one(
    accounts: Any, key_file: Path
) -> None:
    decided = OrganizationId("decided")
    await accounts.meta.put(META_NAME, decided)
    await accounts.organizations.signup("default", tier=Tier.WHALE, organization_id=decided)
    assert await start(accounts, key_file) == decided


async def tier_of(accounts: Any, organization_id: OrganizationId) -> Tier:
    tier: Tier = (await accounts.organizations.details(organization_id)).organization.tier
    return tier


async def test_the_first_start_uses_the_tier_of_the_settings(accounts: Any, key_file: Path) -> None:
    organization_id = await start(accounts, key_file, tier=Tier.SHRIMP)
    assert await tier_of(accounts, organization_id) is Tier.SHRIMP


async def test_a_later_start_moves_to_the_tier_of_the_settings(
    accounts: Any, key_file: Path
) -> None:
    organization_id = await start(accounts, key_file)
    await start(accounts, key_file, tier=Tier.CRAB)
    assert await tier_of(accounts, organization_id) is Tier.CRAB
    # A start without a tier changes nothing.
    await start(accounts, key_file)
    assert await tier_of(accounts, organization_id) is Tier.CRAB


async def test_a_start_with_the_same_tier_keeps_the_subscription(
    accounts: Any, key_file: Path
) -> None:
    organization_id = await start(accounts, key_file)
    paid = await accounts.organizations.move(organization_id, Tier.CRAB, is_paid_for=True)
    await start(accounts, key_file, tier=Tier.CRAB)
    after = await accounts.organizations.details(organization_id)
    subscription = after.organization.stripe_subscription_id
    assert subscription == paid.organization.stripe_subscription_id
