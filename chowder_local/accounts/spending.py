"""What an organization's model calls have come to, in tokens and at list price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.relay.meter import Usage
from chowder_local.relay.prices import cost_usd
from chowder_local.store.usage import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.domain import InstanceId, OrganizationId
    from chowder_local.store.usage import Kind, UsageQueries


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


class Spending:
    """Tells what was spent."""

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
        totals, cost = Counts(), 0.0
        is_known = True
        for each in await self._usage.sums(organization_id, instance_id):
            totals.add(each.counts)
            one = _cost(each.model, each.counts, is_billed=each.is_billed)
            is_known = is_known and one is not None
            cost += one or 0.0
        found = await self._usage.rows(organization_id, instance_id, limit=limit + 1)
        rows = [
            SpentOnKind(
                each.kind,
                each.session_name,
                Spent(
                    each.counts,
                    _cost(each.kind.model, each.counts, is_billed=each.kind.is_billed),
                ),
            )
            for each in found[:limit]
        ]
        return SpendingReport(Spent(totals, cost if is_known else None), rows, len(found) > limit)


def _cost(model: str, counts: Counts, *, is_billed: bool) -> float | None:
    usage = Usage(
        input_tokens=counts.input_tokens,
        cached_tokens=counts.cached_tokens,
        cache_write_tokens=counts.cache_write_tokens,
        long_cache_write_tokens=counts.long_cache_write_tokens,
        output_tokens=counts.output_tokens,
    )
    return cost_usd(model, usage, is_billed=is_billed)
