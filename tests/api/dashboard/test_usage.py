"""Usage: its numbers for a range, an instance, and what is not known of their cost."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chowder_local.dashboard import usage
from chowder_local.store.usage import Counts, Kind
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    import pytest

    from chowder_local.core.domain import Instance
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script>'


def spend(
    visitor: Visitor, agent: Instance, days: int, model: str = "gpt-4o", *, is_billed: bool = True
) -> None:
    """A call so many days ago."""
    day = datetime.now(UTC).date() - timedelta(days=days)
    kind = Kind(agent.id, day, "", "openai", model, is_billed)
    visitor.http.world.usage.note(kind, Counts(1, 0, 1_000_000, 0, 0, 0, 100))


def totals(html: str) -> list[str]:
    found = re.findall(r"<dd>([^<]*)</dd>", html.split("</dl>")[0])
    return [each for each in found if each]


RANGES = [("7d", "1", 1), ("30d", "2", 2), ("90d", "3", 3), ("365d", "4", 4)]


async def test_a_range_has_its_own_sums(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for days in (0, 29, 89, 364, 365):
        spend(visitor, agent, days)
    got = []
    for range_, _, _ in RANGES:
        html = (await visitor.get(f"/usage?range={range_}")).text
        rects = Elements(html).all("rect")
        drawn = [each for each in rects if "series-0" in (each.get("class") or "")]
        # Tokens in, tokens out, calls, cost.
        got.append((range_, totals(html)[0], len(drawn) / 4))
    assert got == RANGES


async def test_costs_that_nobody_knows_are_said(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    spend(visitor, agent, 0)
    spend(visitor, agent, 0, HOSTILE)
    spend(visitor, agent, 0, "gpt-4o", is_billed=False)
    html = (await visitor.get("/usage")).text
    assert totals(html) == ["3", "3,000,000", "300", "$2.50"]
    assert "whose price is not known" in html
    assert "not billed" in html
    assert "<script>alert" not in html
    labels = [each["aria-label"] or "" for each in Elements(html).all("svg", role="img")]
    assert [each.partition(",")[0] for each in labels] == [
        "Tokens in: 3",
        "Tokens out: 300 in all",
        "Calls: 3 in all",
        "Cost: $2.50 in all",
    ]


async def test_more_models_than_colours_are_one(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for number in range(9):
        spend(visitor, agent, 0, f"m{number}")
    html = (await visitor.get("/usage")).text
    assert "4 others" in html
    assert "series-6" not in html


async def test_of_many_instances_those_are_listed_that_used_most(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "INSTANCES_MAX", 2)
    world = visitor.http.world
    agents = [await world.created(name=f"agent-{each}") for each in range(4)]
    for number, agent in enumerate(agents):
        for _ in range(number + 1):
            spend(visitor, agent, 0)
    await world.lifecycle.delete(world.organization_id, agents[3].id)
    html = (await visitor.get("/usage")).text
    listed = html.split('id="instances"')[1]
    assert re.findall(r'class="name"[^>]*>([^<]*)<', listed) == ["agent-3", "agent-2", "2 others"]
    # What a deleted one has used is not forgotten, but there is no page of it.
    assert "deleted" in listed
    own = (await visitor.get(f"/usage?instance={agents[2].id}")).text
    assert totals(own)[0] == "3"
    await visitor.signed_in(await visitor.http.other_key())
    assert (await visitor.get(f"/usage?instance={agents[2].id}")).status_code == 404
    assert "There were no model calls" in (await visitor.get("/usage")).text
