"""What an organization's model calls have come to, in tokens and at list price."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.relay.prices import cost_usd
from chowder_local.relay.wire.wire_format import Usage
from chowder_local.store.usage import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.store.usage import Kind, Span, UsageQueries, UsageSum


@dataclass(frozen=True)
class Spent:
    """Calls and tokens; `cost_usd` is None if the price of some of them is not known."""

    counts: Counts
    cost_usd: float | None


@dataclass(frozen=True)
class SpentOnKind:
    """What the calls of one conversation, model and day came to."""

    kind: Kind
    session_name: str | None
    spent: Spent


@dataclass(frozen=True)
class SpendingReport:
    """All of it, and in detail the latest."""

    totals: Spent
    rows: Sequence[SpentOnKind]
    has_more: bool


@dataclass
class Tally:
    """Sums over some calls; `unpriced` are the models whose calls are not in the cost."""

    counts: Counts = field(default_factory=Counts)
    cost_usd: float = 0.0
    unpriced: set[str] = field(default_factory=set)

    def add(self, part: UsageSum) -> None:
        """Counts some of them in."""
        self.counts.add(part.counts)
        cost = _cost(part, part.counts)
        if cost is None:
            self.unpriced.add(part.model)
        else:
            self.cost_usd += cost

    def join(self, other: Tally) -> None:
        """Counts another one in."""
        self.counts.add(other.counts)
        self.cost_usd += other.cost_usd
        self.unpriced |= other.unpriced


@dataclass(frozen=True)
class ModelUsed:
    """A model, and whether a provider is paid for it; the name is empty if it is not known."""

    name: str
    is_billed: bool


@dataclass(frozen=True)
class SpendingOverTime:
    """What was spent within some days: in all, by day and model, by model, by instance."""

    span: Span
    total: Tally
    days: Mapping[date, Mapping[ModelUsed, Tally]]
    models: Mapping[ModelUsed, Tally]
    instances: Mapping[InstanceId, Tally]


class CostReports:
    def __init__(self, usage: UsageQueries) -> None:
        self._usage = usage

    async def report(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None = None,
        *,
        limit: int,
    ) -> SpendingReport:
        """What an organization, or one instance of it, has spent; rows the latest days first."""
        total = Tally()
        for each in await self._usage.sums(organization_id, instance_id):
            total.add(each)
        found = await self._usage.rows(organization_id, instance_id, limit=limit + 1)
        rows = [
            SpentOnKind(
                each.kind, each.session_name, Spent(each.counts, _cost(each.kind, each.counts))
            )
            for each in found[:limit]
        ]
        spent = Spent(total.counts, None if total.unpriced else total.cost_usd)
        return SpendingReport(spent, rows, len(found) > limit)

    async def over_time(
        self, organization_id: OrganizationId, span: Span, instance_id: InstanceId | None = None
    ) -> SpendingOverTime:
        """What an organization, or one instance of it, has spent within some days."""
        total = Tally()
        days: dict[date, dict[ModelUsed, Tally]] = {}
        models: dict[ModelUsed, Tally] = {}
        instances: dict[InstanceId, Tally] = {}
        by_day, by_instance = await self._usage.over_time(organization_id, span, instance_id)
        for part in by_day:
            model = ModelUsed(part.model, part.is_billed)
            of_day = days.setdefault(part.of, {})
            of_model = models.setdefault(model, Tally())
            for tally in (total, of_model, of_day.setdefault(model, Tally())):
                tally.add(part)
        for of_instance in by_instance:
            instances.setdefault(of_instance.of, Tally()).add(of_instance)
        return SpendingOverTime(span, total, days, models, instances)


def _cost(used: Kind | UsageSum, counts: Counts) -> float | None:
    usage = Usage(
        input_tokens=counts.input_tokens,
        cached_tokens=counts.cached_tokens,
        cache_write_tokens=counts.cache_write_tokens,
        long_cache_write_tokens=counts.long_cache_write_tokens,
        output_tokens=counts.output_tokens,
    )
    return cost_usd(used.model, usage, is_billed=used.is_billed)
