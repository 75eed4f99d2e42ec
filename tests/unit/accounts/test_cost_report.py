"""What was spent, in all and in detail; one price that nobody knows makes the sum unknown."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.cost_report import CostReports, ModelUsed
from chowder_local.core.domain import InstanceId, ModelProvider
from chowder_local.store.usage import Counts, Kind, Span
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MILLION = Counts(calls=1, input_tokens=1_000_000)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


def kind(instance_id: InstanceId, model: str, *, is_billed: bool = True) -> Kind:
    day = date(2026, 5, 4)
    return Kind(instance_id, day, "", ModelProvider.OPENAI, model, is_billed=is_billed)


async def test_costs_are_summed_over_models(world: World) -> None:
    instance, cost_reports = await world.created(), CostReports(world.usage)
    world.usage.note(kind(instance.id, "gpt-4o"), MILLION)
    world.usage.note(kind(instance.id, "gpt-4o-mini"), MILLION)
    world.usage.note(kind(instance.id, "gpt-4o", is_billed=False), MILLION)
    report = await cost_reports.report(world.organization_id, limit=9)
    assert report.totals.cost_usd == pytest.approx(2.65)
    assert report.totals.counts.calls == 3
    costs = sorted(row.spent.cost_usd or 0 for row in report.rows)
    assert costs == pytest.approx([0, 0.15, 2.5])
    assert not report.has_more


async def test_an_unknown_price_leaves_the_sum_unknown(world: World) -> None:
    instance, cost_reports = await world.created(), CostReports(world.usage)
    world.usage.note(kind(instance.id, "gpt-4o"), MILLION)
    world.usage.note(kind(instance.id, "gpt-99"), MILLION)
    report = await cost_reports.report(world.organization_id, instance.id, limit=9)
    assert report.totals.cost_usd is None
    assert {row.kind.model: row.spent.cost_usd for row in report.rows} == {
        "gpt-4o": 2.5,
        "gpt-99": None,
    }


async def test_it_says_when_there_is_more(world: World) -> None:
    instance, cost_reports = await world.created(), CostReports(world.usage)
    for model in ("a", "b", "c"):
        world.usage.note(kind(instance.id, model), MILLION)
    report = await cost_reports.report(world.organization_id, limit=2)
    assert (len(report.rows), report.has_more, report.totals.counts.calls) == (2, True, 3)


async def test_some_days_are_told_by_day_model_and_instance(world: World) -> None:
    first, second = await world.created(), await world.created()
    cost_reports, day = CostReports(world.usage), date(2026, 5, 4)
    for each in (
        kind(first.id, "gpt-4o"), kind(first.id, "gpt-99"), kind(second.id, "gpt-4o"),
        kind(second.id, "gpt-4o", is_billed=False),
    ):  # fmt: skip
        world.usage.note(each, MILLION)
    found = await cost_reports.over_time(world.organization_id, Span(day, day))
    assert found.total.counts.calls == 4
    # What nobody knows is left out, and named.
    assert (found.total.cost_usd, found.total.unpriced) == (5.0, {"gpt-99"})
    assert found.days.keys() == {day}
    assert {model: tally.cost_usd for model, tally in found.days[day].items()} == {
        ModelUsed("gpt-4o", True): 5.0,
        ModelUsed("gpt-4o", False): 0.0,
        ModelUsed("gpt-99", True): 0.0,
    }
    assert found.models.keys() == found.days[day].keys()
    assert {each: tally.counts.calls for each, tally in found.instances.items()} == {
        first.id: 2,
        second.id: 2,
    }
    own = await cost_reports.over_time(world.organization_id, Span(day, day), second.id)
    assert own.instances.keys() == {second.id}
    earlier = await cost_reports.over_time(
        world.organization_id, Span(date(2026, 5, 1), date(2026, 5, 3))
    )
    assert earlier.total.counts == Counts()
