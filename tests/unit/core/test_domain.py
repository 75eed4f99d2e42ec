"""The enumerations have the contract's values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from chowder_local.core.domain import (
    Caller,
    InstanceStatus,
    KeyId,
    ModelProvider,
    OrganizationId,
    Permission,
    Tier,
)


def test_values_are_those_of_the_contract() -> None:
    assert list(ModelProvider) == ["anthropic", "openai", "gemini"]
    assert list(InstanceStatus) == ["provisioning", "running", "stopped", "error", "terminated"]
    assert list(Tier) == ["shrimp", "crab", "lobster", "whale"]
    assert list(Permission) == ["read", "interact", "configure", "files", "channels"]


def test_each_tier_has_its_limit() -> None:
    limits = {tier: tier.instance_limit for tier in Tier}
    assert limits == {Tier.SHRIMP: 1, Tier.CRAB: 10, Tier.LOBSTER: 500, Tier.WHALE: None}


def test_a_caller_is_immutable() -> None:
    caller = Caller(OrganizationId("org"), KeyId("key"))
    with pytest.raises(FrozenInstanceError):
        caller.is_organization_key = False  # type: ignore[misc]  # what the test is about
