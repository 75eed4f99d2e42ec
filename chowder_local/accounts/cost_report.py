"""Reports of an organization's model usage, in tokens and in USD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chowder_local.relay.wire.wire_format import Usage
from chowder_local.store.usage import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from chowder_local.core.domain import InstanceId, OrganizationId
    from chowder_local.relay.prices import Prices
    from chowder_local.store.usage import Span, UsageKey, UsageQueries, UsageSum


@dataclass(frozen=True)
class Spending:
    """Calls and tokens; `cost_usd` is None if the price of some calls is unknown."""

    counts: Counts
    cost_usd: float | None


@dataclass(frozen=True)
class SpendingRow:
    """The spending of a session and model on one day."""

    key: UsageKey
    session_name: str | None
    spending: Spending


@dataclass(frozen=True)
class SpendingReport:
    """The totals, and the latest rows."""

    totals: Spending
    rows: Sequence[SpendingRow]
    has_more: bool


@dataclass
class Tally:
    """Sums over some calls; the cost leaves out the calls of the models `unpriced`."""

    counts: Counts = field(default_factory=Counts)
    cost_usd: float = 0.0
    unpriced: set[str] = field(default_factory=set)

    def add(self, part: UsageSum, prices: Prices) -> None:
        """Adds the usage of a model."""
        self.counts.add(part.counts)
        cost = _cost(part, part.counts, prices)
        if cost is None:
            self.unpriced.add(part.model)
        else:
            self.cost_usd += cost

    def join(self, other: Tally) -> None:
        """Adds another tally."""
        self.counts.add(other.counts)
        self.cost_usd += other.cost_usd
        self.unpriced |= other.unpriced


@dataclass(frozen=True)
class BilledModel:
    """A model, and whether a provider bills it; the name is empty if it is unknown."""

    name: str
    is_billed: bool


@dataclass(frozen=True)
class SpendingOverTime:
    """Spending within some days: in total, by day and model, by model, by instance.

    `instances` are the largest, and `OTHERS` for the rest of all `instance_count`.
    """

    span: Span
    total: Tally
    days: Mapping[date, Mapping[BilledModel, Tally]]
    models: Mapping[BilledModel, Tally]
    instances: Mapping[InstanceId, Tally]
    instance_count: int


@dataclass(eq=False, repr=False)
class CostReports:
    """Makes reports of usage and cost."""

    usage: UsageQueries
    prices: Prices

    async def report(
        self,
        organization_id: OrganizationId,
        instance_id: InstanceId | None = None,
        *,
        limit: int,
    ) -> SpendingReport:
        """The spending of an organization, or one instance of it; the latest days first."""
        total = Tally()
        for each in await self.usage.sums(organization_id, instance_id):
            total.add(each, self.prices)
        usages = await self.usage.rows(organization_id, instance_id, limit=limit + 1)
        rows = [
            SpendingRow(
                each.key,
                each.session_name,
                Spending(each.counts, _cost(each.key, each.counts, self.prices)),
            )
            for each in usages[:limit]
        ]
        totals = Spending(total.counts, None if total.unpriced else total.cost_usd)
        return SpendingReport(totals, rows, len(usages) > limit)

    async def of_session(
        self, organization_id: OrganizationId, instance_id: InstanceId, session_key: str
    ) -> Tally:
        """The spending of an instance's session."""
        total = Tally()
        for each in await self.usage.sums(organization_id, instance_id, session_key):
            total.add(each, self.prices)
        return total

    async def over_time(
        self, organization_id: OrganizationId, span: Span, instance_id: InstanceId | None = None
    ) -> SpendingOverTime:
        """The spending of an organization, or one instance of it, within some days."""
        total = Tally()
        days: dict[date, dict[BilledModel, Tally]] = {}
        models: dict[BilledModel, Tally] = {}
        instances: dict[InstanceId, Tally] = {}
        by_day, by_instance, count = await self.usage.over_time(organization_id, span, instance_id)
        for part in by_day:
            model = BilledModel(part.model, part.is_billed)
            of_day = days.setdefault(part.of, {})
            of_model = models.setdefault(model, Tally())
            for tally in (total, of_model, of_day.setdefault(model, Tally())):
                tally.add(part, self.prices)
        for of_instance in by_instance:
            instances.setdefault(of_instance.of, Tally()).add(of_instance, self.prices)
        return SpendingOverTime(span, total, days, models, instances, count)


def _cost(used: UsageKey | UsageSum, counts: Counts, prices: Prices) -> float | None:
    usage = Usage(
        input_tokens=counts.input_tokens,
        cached_tokens=counts.cached_tokens,
        cache_write_tokens=counts.cache_write_tokens,
        long_cache_write_tokens=counts.long_cache_write_tokens,
        output_tokens=counts.output_tokens,
    )
    return prices.cost_usd(used.model, usage, is_billed=used.is_billed)
