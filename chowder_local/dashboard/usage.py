"""Tokens and costs of model calls over time, by model and by instance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from chowder_local.accounts.cost_report import Tally
from chowder_local.core.domain import InstanceStatus
from chowder_local.dashboard.charts import SERIES_MAX, BarChart, Series, bar_chart
from chowder_local.dashboard.instances import find_instance
from chowder_local.dashboard.pages import page, usage_parts, with_query
from chowder_local.dashboard.rendering import day, money, number
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.relay import prices
from chowder_local.store.usage import OTHERS, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.accounts.cost_report import BilledModel, SpendingOverTime
    from chowder_local.core.domain import InstanceId

HERE = "/usage"
UNKNOWN_MODEL = "unknown"
NOT_BILLED = "not billed"


class Range(StrEnum):
    """How many days the page covers, today included."""

    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"
    YEAR = "365d"

    @property
    def days(self) -> int:
        return int(self.removesuffix("d"))

    @property
    def label(self) -> str:
        return "A year" if self is Range.YEAR else f"{self.days} days"

    @property
    def bar(self) -> str:
        """The unit of time that a bar covers."""
        return {Range.QUARTER: "week", Range.YEAR: "month"}.get(self, "day")

    def first_day(self, any_day: date) -> date:
        """The first day of the bar that contains a day."""
        if self is Range.QUARTER:
            return any_day - timedelta(days=any_day.weekday())
        return any_day.replace(day=1) if self is Range.YEAR else any_day


class UsagePageQuery(BaseModel):
    range: Range = Range.MONTH
    instance: str = Field("", max_length=64)

    def address(self, **changes: str) -> str:
        """The page's address with this query, or with changed values."""
        return with_query(HERE, **{"range": self.range.value, "instance": self.instance} | changes)


@dataclass(frozen=True)
class UsageGroup:
    """Models that share a colour; most groups have one model."""

    name: str
    models: Sequence[BilledModel]


@dataclass(frozen=True)
class UsageLine:
    """A row of a table; `part` is its tokens as a fraction of the largest row's.

    `series` is the colour of a model in the charts.
    """

    name: str
    tally: Tally
    note: str = ""
    instance_id: InstanceId | None = None
    has_page: bool = False
    part: float = 0
    series: int | None = None


async def show(request: Request) -> Response:
    """The page; htmx selects a part of it when the range changes."""
    query = parse_query(request, UsagePageQuery)
    today = datetime.now(UTC).date()
    span = Span(today - timedelta(days=query.range.days - 1), today)
    organization_id = caller(request).organization_id
    only = None
    if query.instance:
        only = await services(request).directory.get(organization_id, query.instance)
    spent = await services(request).cost_reports.over_time(
        organization_id, span, only.id if only else None
    )
    times, groups = _times(spent.span, query.range), _groups(spent.models)
    return await page(
        request,
        "usage.html",
        here=HERE,
        query=query,
        ranges=list(Range),
        only=only,
        span=span,
        spent=spent,
        groups=groups,
        charts=_charts(spent, times, query.range, groups),
        over_time=_over_time(spent, times, query.range),
        models=_models(spent.models, groups),
        instances=await _instances(request, spent),
        as_of=prices.AS_OF,
        below=usage_parts(request, only),
    )


def _times(span: Span, range_: Range) -> list[date]:
    days = (span.first + timedelta(days=each) for each in range(range_.days))
    return list(dict.fromkeys(map(range_.first_day, days)))


def _charts(
    spent: SpendingOverTime, times: Sequence[date], range_: Range, groups: Sequence[UsageGroup]
) -> list[BarChart]:
    numbers = {model: at for at, group in enumerate(groups) for model in group.models}
    sums = [{each: Tally() for each in times} for _ in groups]
    for at, models in spent.days.items():
        for model, tally in models.items():
            sums[numbers[model]][range_.first_day(at)].join(tally)
    labels = [day(each) for each in times]

    def chart(
        title: str, value: Callable[[Tally], float], to_text: Callable[[float], str] = number
    ) -> BarChart:
        series = [
            Series(group.name, [value(each) for each in by_time.values()])
            for group, by_time in zip(groups, sums, strict=True)
        ]
        return bar_chart(title, labels, series, to_text)

    return [
        chart("Tokens in", lambda tally: tally.counts.input_tokens),
        chart("Tokens out", lambda tally: tally.counts.output_tokens),
        chart("Calls", lambda tally: tally.counts.calls),
        chart("Cost", lambda tally: tally.cost_usd, money),
    ]


def _groups(models: Mapping[BilledModel, Tally]) -> list[UsageGroup]:
    """The largest models; the others share one group if there are more models than colours."""
    ranked = sorted(models, key=lambda each: _tokens(models[each]), reverse=True)
    if len(ranked) <= SERIES_MAX:
        return [UsageGroup(_title(each), [each]) for each in ranked]
    largest, others = ranked[: SERIES_MAX - 1], ranked[SERIES_MAX - 1 :]
    groups = [UsageGroup(_title(each), [each]) for each in largest]
    return [*groups, UsageGroup(f"{len(others)} others", others)]


def _over_time(
    spent: SpendingOverTime, times: Sequence[date], range_: Range
) -> list[tuple[date, Tally]]:
    sums = {each: Tally() for each in times}
    for at, models in spent.days.items():
        for tally in models.values():
            sums[range_.first_day(at)].join(tally)
    return list(sums.items())


def _models(models: Mapping[BilledModel, Tally], groups: Sequence[UsageGroup]) -> list[UsageLine]:
    return _ranked(
        UsageLine(
            each.name or UNKNOWN_MODEL,
            models[each],
            "" if each.is_billed else NOT_BILLED,
            series=at,
        )
        for at, group in enumerate(groups)
        for each in group.models
    )


async def _instances(request: Request, spent: SpendingOverTime) -> list[UsageLine]:
    largest = dict(spent.instances)
    others = largest.pop(OTHERS, None)
    rows = []
    for each, tally in largest.items():
        instance = await find_instance(request, each)
        has_page = instance is not None and instance.status is not InstanceStatus.TERMINATED
        name = instance.name if instance else each[:8]
        rows.append(UsageLine(name, tally, "" if has_page else "deleted", each, has_page))
    rows = _ranked(rows)
    if others is not None:
        rows.append(UsageLine(f"{spent.instance_count - len(largest)} others", others))
    return rows


def _ranked(rows: Iterable[UsageLine]) -> list[UsageLine]:
    """The rows with `part` set, largest first."""
    ranked = sorted(rows, key=lambda each: _tokens(each.tally), reverse=True)
    top = max((_tokens(each.tally) for each in ranked), default=0) or 1
    return [replace(each, part=_tokens(each.tally) / top) for each in ranked]


def _tokens(tally: Tally) -> int:
    return tally.counts.input_tokens + tally.counts.output_tokens


def _title(model: BilledModel) -> str:
    name = model.name or UNKNOWN_MODEL
    return name if model.is_billed else f"{name}, {NOT_BILLED}"
