"""Handlers: what model calls have come to, over time, by model and by instance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from chowder_local.accounts.cost_report import Tally
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.dashboard.bar_chart import SERIES_MAX, BarChart, Series, bar_chart
from chowder_local.dashboard.rendering import day, money, number
from chowder_local.dashboard.services import page
from chowder_local.http.bodies import parse_query
from chowder_local.http.services import caller, services
from chowder_local.relay import prices
from chowder_local.store.usage import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from chowder_local.accounts.cost_report import ModelUsed, SpendingOverTime
    from chowder_local.core.domain import Instance, InstanceId

HERE = "/usage"
INSTANCES_MAX = 50
"""So many are listed, those that have used most; all others are summed up."""


class Range(StrEnum):
    """How far back one looks."""

    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"
    YEAR = "365d"

    @property
    def days(self) -> int:
        """How many days, today included."""
        return int(self.removesuffix("d"))

    @property
    def words(self) -> str:
        """What people call it."""
        return {7: "7 days", 30: "30 days", 90: "90 days", 365: "A year"}[self.days]

    def begin(self, of: date) -> date:
        """The first day of the bar that a day is in: the day, its week, or its month."""
        if self is Range.QUARTER:
            return of - timedelta(days=of.weekday())
        return of.replace(day=1) if self is Range.YEAR else of

    @property
    def bar(self) -> str:
        """How long a bar is."""
        return {Range.QUARTER: "week", Range.YEAR: "month"}.get(self, "day")


class UsageWanted(BaseModel):
    """What is looked at."""

    range: Range = Range.MONTH
    instance: str = Field("", max_length=64)

    def address(self, **more: str) -> str:
        """The page with these and other wishes."""
        wishes = {"range": self.range.value, "instance": self.instance} | more
        return f"{HERE}?{urlencode({name: value for name, value in wishes.items() if value})}"


@dataclass(frozen=True)
class Group:
    """Models that have a colour together; most are alone."""

    name: str
    models: Sequence[ModelUsed]


@dataclass(frozen=True)
class Line:
    """A row of a table: what it is about, its sums, and which part of the largest it is."""

    name: str
    tally: Tally
    part: float
    note: str = ""
    instance_id: InstanceId | None = None
    is_there: bool = False


async def show(request: Request) -> Response:
    """The page; other ranges are parts of it that htmx takes out."""
    wanted = parse_query(request, UsageWanted)
    today = datetime.now(UTC).date()
    span = Span(today - timedelta(days=wanted.range.days - 1), today)
    organization_id = caller(request).organization_id
    looked = None
    if wanted.instance:
        looked = await services(request).directory.get(organization_id, wanted.instance)
    spent = await services(request).cost_reports.over_time(
        organization_id, span, looked.id if looked else None
    )
    times, groups = _times(spent.span, wanted.range), _groups(spent.models)
    return await page(
        request,
        "usage.html",
        here=HERE,
        wanted=wanted,
        ranges=list(Range),
        looked=looked,
        span=span,
        spent=spent,
        groups=groups,
        charts=_charts(spent, times, wanted.range, groups),
        over_time=_over_time(spent, times, wanted.range),
        models=_models(spent.models),
        instances=await _instances(request, spent.instances),
        as_of=prices.AS_OF,
    )


def _times(span: Span, range_: Range) -> list[date]:
    days = (span.first + timedelta(days=each) for each in range(range_.days))
    return list(dict.fromkeys(map(range_.begin, days)))


def _charts(
    spent: SpendingOverTime, times: Sequence[date], range_: Range, groups: Sequence[Group]
) -> list[BarChart]:
    numbers = {model: at for at, group in enumerate(groups) for model in group.models}
    sums = [{each: Tally() for each in times} for _ in groups]
    for at, models in spent.days.items():
        for model, tally in models.items():
            sums[numbers[model]][range_.begin(at)].join(tally)
    labels = [day(each) for each in times]

    def chart(
        title: str, value: Callable[[Tally], float], worded: Callable[[float], str] = number
    ) -> BarChart:
        series = [
            Series(group.name, [value(each) for each in of.values()])
            for group, of in zip(groups, sums, strict=True)
        ]
        return bar_chart(title, labels, series, worded)

    return [
        chart("Tokens in", lambda tally: tally.counts.input_tokens),
        chart("Tokens out", lambda tally: tally.counts.output_tokens),
        chart("Calls", lambda tally: tally.counts.calls),
        chart("Cost", lambda tally: tally.cost_usd, money),
    ]


def _groups(models: Mapping[ModelUsed, Tally]) -> list[Group]:
    """The largest models, and all others as one if there are more than colours."""
    ranked = sorted(models, key=lambda each: _tokens(models[each]), reverse=True)
    if len(ranked) <= SERIES_MAX:
        return [Group(_title(each), [each]) for each in ranked]
    shown, others = ranked[: SERIES_MAX - 1], ranked[SERIES_MAX - 1 :]
    return [*(Group(_title(each), [each]) for each in shown),
            Group(f"{len(others)} others", others)]  # fmt: skip


def _over_time(
    spent: SpendingOverTime, times: Sequence[date], range_: Range
) -> list[tuple[date, Tally]]:
    sums = {each: Tally() for each in times}
    for at, models in spent.days.items():
        for tally in models.values():
            sums[range_.begin(at)].join(tally)
    return list(sums.items())


def _models(models: Mapping[ModelUsed, Tally]) -> list[Line]:
    return _lines(
        [
            Line(each.name or "not told", tally, 0, "" if each.is_billed else "nobody paid")
            for each, tally in models.items()
        ]
    )


async def _instances(request: Request, instances: Mapping[InstanceId, Tally]) -> list[Line]:
    ranked = sorted(instances.items(), key=lambda each: _tokens(each[1]), reverse=True)
    shown, others = ranked[:INSTANCES_MAX], ranked[INSTANCES_MAX:]
    lines = []
    for each, tally in shown:
        known = await _instance(request, each)
        is_there = known is not None and known.status is not InstanceStatus.TERMINATED
        name, note = known.name if known else each[:8], "" if is_there else "deleted"
        lines.append(Line(name, tally, 0, note, instance_id=each, is_there=is_there))
    if others:
        rest = Tally()
        for _, tally in others:
            rest.join(tally)
        return [*_lines(lines), Line(f"{len(others)} others", rest, 0)]
    return _lines(lines)


async def _instance(request: Request, instance_id: InstanceId) -> Instance | None:
    try:
        return await services(request).directory.get(caller(request).organization_id, instance_id)
    except InstanceNotFound:
        return None


def _lines(lines: Sequence[Line]) -> list[Line]:
    """The same, the largest first, with their parts."""
    top = max((_tokens(each.tally) for each in lines), default=0) or 1
    return [
        Line(each.name, each.tally, _tokens(each.tally) / top, each.note, each.instance_id,
             each.is_there)
        for each in sorted(lines, key=lambda each: _tokens(each.tally), reverse=True)
    ]  # fmt: skip


def _tokens(tally: Tally) -> int:
    return tally.counts.input_tokens + tally.counts.output_tokens


def _title(model: ModelUsed) -> str:
    name = model.name or "not told"
    return name if model.is_billed else f"{name}, nobody paid"
