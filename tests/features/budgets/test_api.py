"""Budgets by the API, and what the client of a message gets past one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.events import EventType
from chowder_local.features.budgets.errors import BudgetExceeded
from chowder_local.features.budgets.model import Spent
from chowder_local.features.budgets.service import Budgets
from tests.scripted import gateway as scripted

if TYPE_CHECKING:
    from tests.api.conftest import Api
    from tests.api.dashboard.conftest import Visitor

ASKED = {"model": "claude-sonnet-4-20250514", "input": "Hi"}


async def paths(http: Api) -> list[str]:
    instance = await http.world.created()
    return ["/local/budget", f"/local/instances/{instance.id}/budget"]


async def test_a_budget_is_set_shown_changed_and_removed(http: Api) -> None:
    for path in await paths(http):
        assert (await http.get(path)).status_code == 404
        made = await http.call("PUT", path, json={"usd": 5, "per": "day"})
        assert made.status_code == 200
        shown = (await http.get(path)).json()
        assert shown == made.json()
        assert (shown["usd"], shown["tokens"], shown["per"]) == (5, None, "day")
        assert (shown["since"], shown["until"]) == ("2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z")
        assert shown["spent"] == shown["reserved"] == {"usd": 0, "tokens": 0, "model_calls": 0}
        changed = await http.call("PUT", path, json={"model_calls": 7, "per": "total"})
        assert (changed.json()["usd"], changed.json()["model_calls"]) == (None, 7)
        assert changed.json()["until"] is None
        for _ in range(2):
            assert (await http.call("DELETE", path)).status_code == 204
        assert (await http.get(path)).status_code == 404
    kinds = [each.type for each in http.world.events.after(0) if "budget" in each.type]
    one = [EventType.BUDGET_SET, EventType.BUDGET_SET, EventType.BUDGET_REMOVED]
    assert kinds == one * 2


@pytest.mark.parametrize(
    "body",
    [
        {"per": "day"}, {"usd": 5}, {"usd": 5, "per": "week"}, {"usd": -1, "per": "day"},
        {"tokens": 1.5, "per": "day"}, {"model_calls": -1, "per": "total"},
        {"usd": 1e300, "per": "day"}, {"tokens": 1 << 60, "per": "day"}, [], {},
        {"usd": 5, "model_cals": 1, "per": "day"},
    ],
)  # fmt: skip
async def test_other_budgets_are_refused(http: Api, body: dict[str, Any]) -> None:
    assert (await http.call("PUT", "/local/budget", json=body)).status_code == 422


async def test_a_budget_is_the_organizations_own(http: Api) -> None:
    _, of_instance = await paths(http)
    await http.call("PUT", "/local/budget", json={"usd": 5, "per": "total"})
    other = await http.other_key()
    assert (await http.get("/local/budget", key=other)).status_code == 404
    assert (await http.get(of_instance, key=other)).status_code == 404


async def test_a_reset_keeps_the_organizations_budget(http: Api) -> None:
    organization, of_instance = await paths(http)
    for path in (organization, of_instance):
        await http.call("PUT", path, json={"usd": 5, "per": "total"})
    assert (await http.post("/local/reset")).status_code == 200
    assert (await http.get(organization)).status_code == 200
    assert http.world.feature(Budgets).find(of_instance.split("/")[3]) is None


async def test_the_setting_is_a_total_whose_spending_survives_a_start(http: Api) -> None:
    owner_id, budgets = http.world.organization_id, http.world.feature(Budgets)
    await budgets.open(owner_id, 5.0)
    await budgets.write()
    stored = replace(budgets.get(owner_id).stored(), spent=Spent(4.0, 10, 1))
    await budgets.queries.save([stored])
    await budgets.open(owner_id, 7.0)
    budget = (await http.get("/local/budget")).json()
    assert (budget["usd"], budget["per"], budget["spent"]["usd"]) == (7, "total", 4)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_client_of_a_message_gets_a_402(http: Api, is_streamed: bool) -> None:
    instance = await http.world.created()
    failure = BudgetExceeded("The organization's budget is spent.")
    marker = http.world.model_failures.remember(failure, instance.sandbox_id)
    content = {"status": "failed", "error": {"code": "x", "message": f"400: {marker}"}}
    http.world.gateway.handler = scripted.failing(400, content)
    payload = ASKED | {"stream": is_streamed}
    answer = await http.post(f"/v1/instances/{instance.id}/responses", json=payload)
    assert answer.status_code == 402
    assert answer.json() == {
        "detail": str(failure),
        "error": {
            "message": str(failure), "type": "invalid_request_error", "code": "budget_exceeded",
            "param": None,
        },
    }  # fmt: skip


async def test_a_budget_is_set_shown_and_removed_on_the_dashboard(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for query in ("", f"?instance={agent.id}"):
        made = await visitor.post(f"/usage/budget{query}", {"usd": "5", "per": "day", "tokens": ""})
        assert made.status_code == 200
        assert "The budget is set." in made.text
        assert "$0.00 of $5.00" in (await visitor.get(f"/usage{query}")).text
        asked = await visitor.get(f"/usage/budget/remove{query}")
        assert "Remove the budget?" in asked.text
        await visitor.post(f"/usage/budget/remove{query}", {})
        assert "Nothing limits" in (await visitor.get(f"/usage{query}")).text
