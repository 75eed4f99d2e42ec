"""Sign-up and organizations over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from tests.api.conftest import Api

MEMBERS = {
    "id",
    "name",
    "model_providers",
    "subscription_tier",
    "instance_limit",
    "instance_count",
    "created_at",
    "updated_at",
}


async def test_a_signup_needs_no_key_and_returns_one(http: Api) -> None:
    answer = await http.post("/v1/organization/signup", json={"name": "Bakery"}, key=None)
    assert answer.status_code == 201
    assert set(answer.json()) == {"organization", "api_key"}
    organization = answer.json()["organization"]
    assert set(organization) == MEMBERS
    assert organization["name"] == "Bakery"
    assert organization["subscription_tier"] == "shrimp"
    assert organization["instance_limit"] == 1
    assert organization["instance_count"] == 0
    assert organization["model_providers"] == []
    view = await http.get("/v1/organization", key=answer.json()["api_key"])
    assert view.json() == organization


async def test_an_organization_names_its_providers_but_never_its_model_keys(http: Api) -> None:
    answer = await http.get("/v1/organization")
    assert set(answer.json()) == MEMBERS
    assert answer.json()["model_providers"] == ["anthropic", "openai"]
    assert "sk-ant" not in answer.text
    # That one's key is `offline`.
    assert answer.headers["X-Offline-Providers"] == "openai"


async def test_times_are_utc(http: Api) -> None:
    organization = (await http.get("/v1/organization")).json()
    assert datetime.fromisoformat(organization["created_at"]) == http.world.clock.now


async def test_model_keys_are_merged_with_those_that_are_set(http: Api) -> None:
    answer = await http.patch("/v1/organization", json={"model_api_keys": {"gemini": "g-key"}})
    assert answer.json()["model_providers"] == ["anthropic", "gemini", "openai"]
    assert "g-key" not in answer.text
    known = await http.world.organizations.model_key(
        http.world.organization_id, ModelProvider.GEMINI
    )
    assert known == "g-key"


async def test_an_empty_model_key_removes_one(http: Api) -> None:
    answer = await http.patch("/v1/organization", json={"model_api_keys": {"openai": ""}})
    assert answer.json()["model_providers"] == ["anthropic"]


async def test_an_organization_can_be_renamed(http: Api) -> None:
    http.world.clock.advance(5)
    answer = await http.patch("/v1/organization", json={"name": "Bakery"})
    assert answer.status_code == 200
    assert answer.json()["name"] == "Bakery"
    assert answer.json()["model_providers"] == ["anthropic", "openai"]
    assert answer.json()["updated_at"] != answer.json()["created_at"]


@pytest.mark.parametrize("body", [{}, {"name": None, "model_api_keys": None}])
async def test_a_change_of_nothing_changes_nothing(http: Api, body: dict[str, None]) -> None:
    before = (await http.get("/v1/organization")).json()
    assert (await http.patch("/v1/organization", json=body)).json() == before


async def test_every_instance_that_is_not_terminated_counts(http: Api) -> None:
    first, _ = await http.world.created(), await http.world.created()
    assert (await http.get("/v1/organization")).json()["instance_count"] == 2
    await http.call("DELETE", f"/v1/instances/{first.id}")
    assert (await http.get("/v1/organization")).json()["instance_count"] == 1
