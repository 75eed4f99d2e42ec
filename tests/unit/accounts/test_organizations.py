"""Organizations: signup, limits, and encrypted model keys."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.accounts.organizations import Organizations
from chowder_local.core.domain import ModelProvider, OrganizationId
from chowder_local.core.errors.requests import OrganizationNotFound
from chowder_local.core.secrets import SecretBox
from chowder_local.store.organizations import OrganizationQueries

if TYPE_CHECKING:
    from pathlib import Path

ANTHROPIC, OPENAI, GEMINI = ModelProvider.ANTHROPIC, ModelProvider.OPENAI, ModelProvider.GEMINI


async def test_an_empty_model_key_at_signup_is_ignored(accounts: Any) -> None:
    details, _ = await accounts.organizations.signup("Kitchen", model_keys={OPENAI: " "})
    assert details.organization.model_providers == ()


async def test_an_unknown_organization_is_not_found(accounts: Any) -> None:
    unknown = OrganizationId("unknown")
    with pytest.raises(OrganizationNotFound):
        await accounts.organizations.details(unknown)
    with pytest.raises(OrganizationNotFound):
        await accounts.organizations.change(unknown, name="x")
    assert await accounts.organizations.model_key(unknown, OPENAI) is None


async def test_a_model_key_of_another_secret_counts_as_not_set(
    accounts: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    details, _ = await accounts.organizations.signup("Kitchen", model_keys={OPENAI: "sk-o"})
    other = Organizations(
        OrganizationQueries(accounts.database),
        SecretBox.load(tmp_path / "other.key"),
        accounts.clock,
    )
    with caplog.at_level(logging.WARNING):
        assert await other.model_key(details.organization.id, OPENAI) is None
    assert "set it again" in caplog.text


async def test_no_secret_is_on_the_disk_or_in_the_log(
    accounts: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    planted = "sk-ant-PLANTED-0123456789"
    details, raw_key = await accounts.organizations.signup(
        "Kitchen", model_keys={ANTHROPIC: planted}
    )
    await accounts.organizations.change(
        details.organization.id, model_api_keys={OPENAI: planted + "-openai"}
    )
    issued = await accounts.authentication.issue(details.organization.id)
    await accounts.authentication.caller(raw_key)
    # The database is open, so its latest content is in the WAL.
    written = {file.name: file.read_bytes() for file in tmp_path.glob("chowder.db*")}
    assert {"chowder.db", "chowder.db-wal"} <= written.keys()
    assert any(b"Kitchen" in content for content in written.values())
    for secret in (planted, raw_key, issued):
        assert not any(secret.encode() in content for content in written.values())
        assert secret not in caplog.text
