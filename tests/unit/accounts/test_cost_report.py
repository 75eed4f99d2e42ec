"""Cost reports: totals, rows, and unknown prices."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.cost_report import BilledModel, CostReports
from chowder_local.core.domain import InstanceId, ModelProvider
from chowder_local.relay.prices import Prices
from chowder_local.store.usage import Counts, Span, UsageKey

if TYPE_CHECKING:
    from tests.scripted.world import World

MILLION = Counts(calls=1, input_tokens=1_000_000)


def usage_key(instance_id: InstanceId, model: str, *, is_billed: bool = True) -> UsageKey:
    day = date(2026, 5, 4)
    return UsageKey(instance_id, day, "", ModelProvider.OPENAI, model, is_billed=is_billed)


async def test_costs_are_summed_over_models(world: World) -> None:
    instance, cost_reports = await world.created(), CostReports(world.usage, Prices())
    world.usage.note(usage_key(instance.id, "gpt-4o"), MILLION)
    world.usage.note(usage_key(instance.id, "gpt-4o-mini"), MILLION)
    world.usage.note(usage_key(instance.id, "gpt-4o", is_billed=False), MILLION)
    report = await cost_reports.report(world.organization_id, limit=9)
    assert report.totals.cost_usd == pytest.approx(2.65)
    assert report.totals.counts.calls == 3
    costs = sorted(row.spending.cost_usd or 0 for row in report.rows)
    assert costs == pytest.approx([0, 0.15, 2.5])
    assert not report.has_more


async def test_an_unknown_price_makes_the_total_unknown(world: World) -> None:
    instance, cost_reports = await world.created(), CostReports(world.usage, Prices())
    world.usage.note(usage_key(instance.id, "gpt-4o"), MILLION)
    world.usage.note(usage_key(instance.id, "gpt-99"), MILLION)
    report = await cost_reports.report(world.organization_id, instance.id, limit=9)
    assert report.totals.cost_usd is None
    assert {row.key.model: row.spending.cost_usd for row in report.rows} == {
        "gpt-4o": 2.5,
        "gpt-99": None,
    }


async def test_a_report_says_whether_there_are_more_rows(world: World) -> None:
    instance, cost_reports = await world.created(), CostReports(world.usage, Prices())
    for model in ("a", "b", "c"):
        world.usage.note(usage_key(instance.id, model), MILLION)
    report = await cost_reports.report(world.organization_id, limit=2)
    assert (len(report.rows), report.has_more, report.totals.counts.calls) == (2, True, 3)


async def test_a_span_of_days_is_summed_by_day_model_and_instance(world: World) -> None:
    first, second = await world.created(), await world.created()
    cost_reports, day = CostReports(world.usage, Prices()), date(2026, 5, 4)
    for each in (
        usage_key(first.id, "gpt-4o"), usage_key(first.id, "gpt-99"),
        usage_key(second.id, "gpt-4o"), usage_key(second.id, "gpt-4o", is_billed=False),
    ):  # fmt: skip
        world.usage.note(each, MILLION)
    report = await cost_reports.over_time(world.organization_id, Span(day, day))
    assert report.total.counts.calls == 4
    # Models without a price are left out of the cost, and named.
    assert (report.total.cost_usd, report.total.unpriced) == (5.0, {"gpt-99"})
    assert report.days.keys() == {day}
    assert {model: tally.cost_usd for model, tally in report.days[day].items()} == {
        BilledModel("gpt-4o", True): 5.0,
        BilledModel("gpt-4o", False): 0.0,
        BilledModel("gpt-99", True): 0.0,
    }
    assert report.models.keys() == report.days[day].keys()
    assert {each: tally.counts.calls for each, tally in report.instances.items()} == {
        first.id: 2,
        second.id: 2,
    }
    own = await cost_reports.over_time(world.organization_id, Span(day, day), second.id)
    assert own.instances.keys() == {second.id}
    earlier = await cost_reports.over_time(
        world.organization_id, Span(date(2026, 5, 1), date(2026, 5, 3))
    )
    assert earlier.total.counts == Counts()
