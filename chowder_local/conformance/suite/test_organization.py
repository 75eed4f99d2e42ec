"""Signup, organizations and subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.conformance import published
from chowder_local.conformance.drift import answered, invalid, refused
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge


@pytest.mark.read_only
def test_an_organization_is_shown(api: ContractClient, judge: Judge) -> None:
    organization = answered(api.get("organization"))
    tier, limit = organization["subscription_tier"], organization["instance_limit"]
    if tier == "lobster":
        judge("lobster-limit", limit)
    else:
        assert limit == published.read().tiers[tier]
    judge("times", organization["created_at"])


def test_an_empty_change_changes_nothing(api: ContractClient) -> None:
    before = answered(api.get("organization"))
    after = answered(api.patch("organization", json={}))
    changing = {"updated_at", "instance_count"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_an_invalid_name_is_refused(api: ContractClient, anyone: ContractClient) -> None:
    names: list[Any] = ["", "x" * 129, 5, None, ["x"]]
    with every_row() as row:
        for name in names:
            with row(f"{name!r}"):
                invalid(anyone.post("organization/signup", json={"name": name}), "body", "name")
                if name is not None:
                    invalid(api.patch("organization", json={"name": name}), "body", "name")


def test_a_model_key_for_an_unknown_provider_is_refused(api: ContractClient) -> None:
    invalid(api.patch("organization", json={"model_api_keys": {"nobody": "x"}}), "body")


@pytest.mark.stays
def test_a_new_organization_may_have_one_instance_and_has_no_model_key(
    newcomer: ContractClient,
) -> None:
    organization = answered(newcomer.get("organization"))
    assert organization["subscription_tier"] == "shrimp"
    assert organization["instance_limit"] == 1
    assert organization["model_providers"] == []


@pytest.mark.stays
def test_a_signup_answers_the_organization_and_its_key(anyone: ContractClient) -> None:
    name = "conformance \u00e4\U0001f99e"
    content = answered(anyone.post("organization/signup", json={"name": name}))
    assert content["organization"]["name"] == name
    # A failed assertion shows what is compared.
    is_organization_key = content["api_key"].startswith("chd_org_")
    assert is_organization_key
    with anyone.with_key(content["api_key"]) as client:
        assert answered(client.get("organization"))["id"] == content["organization"]["id"]


@pytest.mark.stays
def test_model_keys_are_merged_removed_and_never_shown(newcomer: ContractClient) -> None:
    def change(**keys: str) -> list[str]:
        answer = newcomer.patch("organization", json={"model_api_keys": keys})
        providers: list[str] = answered(answer)["model_providers"]
        assert "sk-conformance" not in answer.text
        return sorted(providers)

    assert change(openai="sk-conformance-1") == ["openai"]
    assert change(gemini="sk-conformance-2") == ["gemini", "openai"]
    assert change(openai="") == ["gemini"]
    assert change(gemini="") == []


@pytest.mark.stays
def test_an_organization_can_be_renamed(newcomer: ContractClient) -> None:
    before = answered(newcomer.get("organization"))
    after = answered(newcomer.patch("organization", json={"name": "renamed"}))
    assert (after["id"], after["name"]) == (before["id"], "renamed")
    answered(newcomer.patch("organization", json={"name": before["name"]}))


@pytest.mark.stays
def test_an_instance_without_a_model_key_ends_in_error_and_counts_until_it_is_deleted(
    newcomer: ContractClient, judge: Judge
) -> None:
    instance_id = answered(newcomer.created(name="no key", model_provider="gemini"))["id"]
    judge("missing-model-key", newcomer.until(instance_id, "error", "running"))
    shown = answered(newcomer.get(f"instances/{instance_id}"))
    assert "gemini" in shown["error_message"].lower()

    words = published.read().messages["limit_reached"]
    refused(newcomer.created(name="one too many"), 402, words=words)
    assert answered(newcomer.get("organization"))["instance_count"] == 1

    answered(newcomer.delete(f"instances/{instance_id}"))
    assert answered(newcomer.get("organization"))["instance_count"] == 0


@pytest.mark.read_only
def test_the_subscription_agrees_with_the_organization(api: ContractClient) -> None:
    subscription = answered(api.get("subscription"))
    organization = answered(api.get("organization"))
    assert subscription["tier"] == organization["subscription_tier"]
    assert subscription["instance_limit"] == organization["instance_limit"]


@pytest.mark.stays
def test_a_checkout_has_a_url(newcomer: ContractClient) -> None:
    with every_row() as row:
        for tier in ("crab", "lobster"):
            with row(tier):
                answer = newcomer.post("subscription/checkout", json={"tier": tier})
                assert answered(answer)["url"].startswith("http")


@pytest.mark.read_only
def test_a_checkout_of_another_tier_is_refused(api: ContractClient) -> None:
    tiers: list[Any] = ["shrimp", "whale", "", 1]
    with every_row() as row:
        for tier in tiers:
            with row(f"{tier!r}"):
                invalid(api.post("subscription/checkout", json={"tier": tier}), "body", "tier")


@pytest.mark.stays
def test_the_portal_has_a_url(newcomer: ContractClient, judge: Judge) -> None:
    answer = newcomer.post("subscription/portal")
    # A payment service may have no customer before the first payment.
    if judge("tier-change", answer.status_code) == 200:
        assert answered(answer)["url"].startswith("http")
