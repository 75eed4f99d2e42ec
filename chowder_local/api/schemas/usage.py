"""Bodies: what model calls have cost."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import Id
from chowder_local.relay import prices

if TYPE_CHECKING:
    from chowder_local.accounts.cost_report import SpendingReport, Spent, SpentOnKind

ROWS_MAX = 10_000


class UsageQuery(BaseModel):
    """How much of the detail."""

    limit: int = Field(1000, ge=1, le=ROWS_MAX, description="So many rows at most.")


class UsageView(BaseModel):
    """Calls and their tokens; those of the cache are among the input."""

    calls: Annotated[int, Field(examples=[2])]
    unmetered_calls: Annotated[
        int,
        Field(description="Those of them that told no usage, as broken ones.", examples=[0]),
    ]
    input_tokens: Annotated[int, Field(examples=[33_562])]
    cached_tokens: Annotated[int, Field(examples=[0])]
    cache_write_tokens: Annotated[int, Field(examples=[0])]
    output_tokens: Annotated[int, Field(examples=[29])]
    cost_usd: Annotated[
        float | None,
        Field(
            description="At list price, 0 of what no provider is paid for; "
            "null: the price of some of it is not known.",
            examples=[0.084195],
        ),
    ]

    @classmethod
    def of(cls, spent: Spent) -> Self:
        return cls(**vars(spent.counts), cost_usd=spent.cost_usd)


class UsageRowView(UsageView):
    """The same, of one conversation, model and day."""

    instance_id: Id
    day: Annotated[date, Field(description="In UTC.", examples=["2026-05-04"])]
    session: Annotated[
        str | None, Field(description="The conversation's name.", examples=["project-alpha"])
    ]
    session_key: Annotated[
        str | None,
        Field(
            description="OpenClaw's key of it; null: the call did not tell.",
            examples=["agent:main:main"],
        ),
    ]
    provider: Annotated[str, Field(examples=["anthropic"])]
    model: Annotated[str | None, Field(examples=["gpt-4o"])]
    is_billed: Annotated[
        bool, Field(description="Whether a provider was paid; the offline model is not.")
    ]

    @classmethod
    def of_kind(cls, row: SpentOnKind) -> Self:
        kind = row.kind
        return cls(
            instance_id=kind.instance_id,
            day=kind.day,
            session=row.session_name,
            session_key=kind.session_key or None,
            provider=kind.provider,
            model=kind.model or None,
            is_billed=kind.is_billed,
            **vars(row.spent.counts),
            cost_usd=row.spent.cost_usd,
        )


class PricesView(BaseModel):
    """Which lists the costs are from."""

    as_of: Annotated[str, Field(examples=[prices.AS_OF])] = prices.AS_OF
    sources: Annotated[list[str], Field(examples=[list(prices.SOURCES)])] = list(prices.SOURCES)


class UsageReportView(BaseModel):
    """What was used: all in all, and in detail the latest."""

    totals: UsageView
    rows: list[UsageRowView]
    has_more: Annotated[bool, Field(description="Whether there are more rows than asked for.")]
    prices: PricesView

    @classmethod
    def of_report(cls, report: SpendingReport) -> Self:
        return cls(
            totals=UsageView.of(report.totals),
            rows=[UsageRowView.of_kind(row) for row in report.rows],
            has_more=report.has_more,
            prices=PricesView(),
        )
