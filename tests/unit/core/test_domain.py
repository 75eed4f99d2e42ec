"""The enumerations have the contract's values."""

from __future__ import annotations

from chowder_local.core.domain import (
    InstanceStatus,
    ModelProvider,
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
