"""Usage: sums for a range and an instance, and unknown costs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chowder_local.store import usage
from chowder_local.store.usage import Counts, UsageKey
from tests.api.dashboard.conftest import Elements

if TYPE_CHECKING:
    import pytest

    from chowder_local.core.domain import Instance
    from tests.api.dashboard.conftest import Visitor

HOSTILE = '"><script>alert(1)</script>'


def spend(
    visitor: Visitor, agent: Instance, days: int, model: str = "gpt-4o", *, is_billed: bool = True
) -> None:
    """Adds a call of some days ago."""
    day = datetime.now(UTC).date() - timedelta(days=days)
    kind = UsageKey(agent.id, day, "", "openai", model, is_billed)
    visitor.http.world.usage.note(kind, Counts(1, 0, 1_000_000, 0, 0, 0, 100))


def totals(html: str) -> list[str]:
    found = re.findall(r"<dd>([^<]*)</dd>", html.split("</dl>")[0])
    return [each for each in found if each]


async def test_each_range_has_its_own_sums(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for days in (0, 29, 89, 364, 365):
        spend(visitor, agent, days)
    today = datetime.now(UTC).date()
    # A year's bars are months: on the last days of one, 29 days ago is in the same.
    months = {f"{today - timedelta(days):%Y-%m}" for days in (0, 29, 89, 364)}
    ranges = [("7d", "1", 1), ("30d", "2", 2), ("90d", "3", 3), ("365d", "4", len(months))]
    got = []
    for range_, _, _ in ranges:
        html = (await visitor.get(f"/usage?range={range_}")).text
        rects = Elements(html).all("rect")
        drawn = [each for each in rects if each.get("class") == "series-0" and "x" in each]
        # Tokens in, tokens out, calls, cost.
        got.append((range_, totals(html)[0], len(drawn) / 4))
    assert got == ranges


async def test_unknown_costs_are_reported(visitor: Visitor) -> None:
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


async def test_a_model_has_one_colour_in_legend_charts_and_table(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for number in range(3):
        for _ in range(3 - number):
            spend(visitor, agent, 0, f"m{number}")
    html = (await visitor.get("/usage")).text
    legend = re.findall(r'<li class="(series-\d)">.*?</span>(m\d)</li>', html)
    charts = re.findall(r'<rect class="(series-\d)"[^>]*><title>[^<]*, (m\d): ', html)
    rows = re.findall(r'<span class="name">(m\d)</span>.*?<rect class="(series-\d)"', html)
    assert legend == [("series-0", "m0"), ("series-1", "m1"), ("series-2", "m2")]
    assert set(charts) == set(legend) == {(colour, name) for name, colour in rows}


async def test_a_chart_without_bars_is_a_sentence(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    spend(visitor, agent, 0, is_billed=False)
    html = (await visitor.get("/usage")).text
    assert "Nothing was paid for" in html
    spend(visitor, agent, 0, "unheard-of")
    html = (await visitor.get("/usage")).text
    assert "The price of these models is not known." in html
    labels = [each["aria-label"] or "" for each in Elements(html).all("svg", role="img")]
    assert not [each for each in labels if each.startswith("Cost")]


async def test_models_beyond_the_colours_share_one_group(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    for number in range(9):
        spend(visitor, agent, 0, f"m{number}")
    html = (await visitor.get("/usage")).text
    assert "4 others" in html
    assert "series-6" not in html


async def test_the_instances_with_most_tokens_are_listed(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MOST_INSTANCES", 2)
    world = visitor.http.world
    agents = [await world.created(name=f"agent-{each}") for each in range(4)]
    for number, agent in enumerate(agents):
        for _ in range(number + 1):
            spend(visitor, agent, 0)
    await world.lifecycle.delete(world.organization_id, agents[3].id)
    html = (await visitor.get("/usage")).text
    listed = html.split('id="instances"')[1]
    assert re.findall(r'class="name"[^>]*>([^<]*)<', listed) == ["agent-3", "agent-2", "2 others"]
    # A deleted instance's usage still counts, but the instance has no page.
    assert "deleted" in listed
    own = (await visitor.get(f"/usage?instance={agents[2].id}")).text
    assert totals(own)[0] == "3"
    await visitor.sign_in(await visitor.http.other_key())
    assert (await visitor.get(f"/usage?instance={agents[2].id}")).status_code == 404
    assert "There were no model calls" in (await visitor.get("/usage")).text
