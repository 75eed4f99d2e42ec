"""The organization's pages: its name, model keys, scoped keys and subscription."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider, Permission
from chowder_local.core.secrets import digest
from chowder_local.dashboard.organization import NAMED, PORTION
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

SECRET = "sk-ant-secret"


async def post(visitor: Visitor, path: str, form: Any) -> str:
    answer = await visitor.post(path, form)
    assert answer.status_code == 200, answer.text
    return answer.text


def lines(html: str) -> list[str]:
    found = [each["id"] or "" for each in Elements(html).all("tr") if "data-state" in each]
    return [each.removeprefix("key-") for each in found]


async def test_the_organizations_page_shows_no_secret(visitor: Visitor) -> None:
    html = (await visitor.get("/organization")).text
    assert "Kitchen" in html
    assert "0 of 10" in html
    assert visitor.http.world.key not in html
    assert "sk-ant" not in html
    # Two providers have keys.
    assert len(Elements(html).all("button", id="clear-anthropic")) == 1
    assert not Elements(html).all("button", id="clear-gemini")


async def test_the_organization_is_renamed(visitor: Visitor) -> None:
    assert "Galley" in await post(visitor, "/organization/name", {"name": "Galley"})
    details = await visitor.http.world.organizations.details(visitor.http.world.organization_id)
    assert details.organization.name == "Galley"
    assert (await visitor.post("/organization/name", {"name": "x" * 129})).status_code == 422


async def test_a_model_key_is_set_and_cleared_without_changing_the_others(visitor: Visitor) -> None:
    organizations = visitor.http.world.organizations
    form = {"provider": "gemini", "key": f" {SECRET}\n"}
    assert SECRET not in await post(visitor, "/organization/model-keys", form)
    organization_id = visitor.http.world.organization_id
    assert await organizations.model_key(organization_id, ModelProvider.GEMINI) == SECRET
    dialog = await visitor.get("/organization/model-keys/clear?provider=gemini")
    assert "Clear the key for gemini?" in dialog.text
    assert "not set" in await post(
        visitor, "/organization/model-keys/clear", {"provider": "gemini"}
    )
    assert await organizations.model_key(organization_id, ModelProvider.GEMINI) is None
    assert await organizations.model_key(organization_id, ModelProvider.OPENAI) == "offline"


NO_MODEL_KEYS = [
    {"provider": "gemini"},
    {"provider": "gemini", "key": "  "},
    {"provider": "nobody", "key": SECRET},
    {"provider": "gemini", "key": "ä"},
    {"key": SECRET},
]


async def test_an_invalid_model_key_is_refused_without_quoting_it(visitor: Visitor) -> None:
    for form in NO_MODEL_KEYS:
        answer = await visitor.post("/organization/model-keys", form)
        assert answer.status_code == 422, form
        assert SECRET not in answer.text, form


async def test_a_new_key_is_only_in_the_response_that_creates_it(visitor: Visitor) -> None:
    world = visitor.http.world
    ada, bea = await world.created(), await world.created(name="Bea")
    form = {
        "name": "ci", "instance_ids": [ada.id, bea.id], "permissions": ["read", "files"],
        "expires_at": "2026-12-24T18:30",
    }  # fmt: skip
    html = await post(visitor, "/organization/keys", form)
    (raw_key,) = {word for word in html.replace("<", " ").replace(">", " ").split()
                  if word.startswith("chd_sk_") and len(word) > 20}  # fmt: skip
    key = await world.key_queries.by_digest(digest(raw_key))
    assert key is not None
    assert key.grants.keys() == {ada.id, bea.id}
    assert set(key.grants.values()) == {frozenset({Permission.READ, Permission.FILES})}
    assert key.expires_at is not None
    assert key.expires_at.isoformat() == "2026-12-24T18:30:00+00:00"
    assert lines(html) == [key.id]
    page = (await visitor.get("/organization")).text
    assert raw_key not in page
    assert key.prefix in page
    assert "read, files" in page
    assert "24 Dec 2026" in page


async def test_a_key_cannot_grant_instances_of_other_organizations(visitor: Visitor) -> None:
    await visitor.http.world.created()
    form: Any = {"name": "ci", "instance_ids": ["another"], "permissions": ["read"]}
    assert (await visitor.post("/organization/keys", form)).status_code == 404
    assert (await visitor.post("/organization/keys", {"name": "ci"})).status_code == 422


async def test_a_key_can_grant_unlisted_instances_by_id(visitor: Visitor) -> None:
    made = [await visitor.http.world.created(name=f"n{each}") for each in range(NAMED + 2)]
    form = {"name": "ci", "permissions": "read", "instance_ids": [made[0].id],
            "more_ids": ", ".join(each.id for each in made[1:])}  # fmt: skip
    html = await post(visitor, "/organization/keys", form)
    assert "and 2 more" in html


async def test_revoking_a_key_asks_for_confirmation(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    form = {"name": "ci", "instance_ids": [agent.id], "permissions": ["read"]}
    (key_id,) = lines(await post(visitor, "/organization/keys", form))
    path = f"/organization/keys/{key_id}/revoke"
    assert "Revoke ci?" in (await visitor.get(path)).text
    assert "revoked" in await post(visitor, path, {})
    page = (await visitor.get("/organization")).text
    assert lines(page) == [key_id]
    assert not Elements(page).all("button", id=f"revoke-{key_id}")
    key = await visitor.http.world.keys.get(visitor.http.world.organization_id, key_id)
    assert not key.is_active


async def test_keys_are_listed_newest_first_in_portions(visitor: Visitor) -> None:
    world = visitor.http.world
    agent = await world.created()
    made = []
    for number in range(PORTION + 3):
        world.clock.advance(1)
        expires_at = world.clock.now + timedelta(seconds=1) if number == 0 else None
        form = {"name": f"k{number}", "instance_ids": [agent.id], "permissions": ["read"]}
        if expires_at is not None:
            form["expires_at"] = expires_at.isoformat()
        made += lines(await post(visitor, "/organization/keys", form))
    first = (await visitor.get("/organization")).text
    assert lines(first) == made[:2:-1]
    (more,) = [each for each in Elements(first).all("a") if "hx-select-oob" in each]
    rest = (await visitor.get(more["href"] or "")).text
    assert lines(rest) == made[2::-1]
    assert "expired" in rest


async def test_the_subscription_page_links_to_checkout_and_portal(visitor: Visitor) -> None:
    html = (await visitor.get("/subscription")).text
    assert "crab" in html
    answer = await visitor.post("/subscription/checkout", {"tier": "lobster"})
    address = answer.headers["HX-Redirect"]
    assert "Move to lobster" in (await visitor.get(address)).text
    answer = await visitor.post("/subscription/portal")
    assert "Move to shrimp" in (await visitor.get(answer.headers["HX-Redirect"])).text
    assert (await visitor.post("/subscription/checkout", {"tier": "whale"})).status_code == 422
