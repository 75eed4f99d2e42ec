"""Bodies: usage and cost of model calls."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import Id
from chowder_local.relay import prices

if TYPE_CHECKING:
    from chowder_local.accounts.cost_report import Spending, SpendingReport, SpendingRow

ROWS_MAX = 10_000


class UsageQuery(BaseModel):
    """How many rows to return."""

    limit: int = Field(1000, ge=1, le=ROWS_MAX, description="How many rows, at most.")


class UsageView(BaseModel):
    """Calls and their tokens; the input tokens include those of the cache."""

    calls: Annotated[int, Field(examples=[2])]
    unmetered_calls: Annotated[
        int,
        Field(description="How many of them reported no usage, such as broken ones.", examples=[0]),
    ]
    input_tokens: Annotated[int, Field(examples=[33_562])]
    cached_tokens: Annotated[int, Field(examples=[0])]
    cache_write_tokens: Annotated[int, Field(examples=[0])]
    output_tokens: Annotated[int, Field(examples=[29])]
    cost_usd: Annotated[
        float | None,
        Field(
            description="At list price or that of CHOWDER_PRICES, and 0 for calls without a paid "
            "provider; null: the price of some calls is unknown.",
            examples=[0.084195],
        ),
    ]

    @classmethod
    def from_spending(cls, spending: Spending) -> Self:
        return cls(**vars(spending.counts), cost_usd=spending.cost_usd)


class UsageRowView(UsageView):
    """The usage of one session and model on one day."""

    instance_id: Id
    day: Annotated[date, Field(description="In UTC.", examples=["2026-05-04"])]
    session: Annotated[
        str | None, Field(description="The session's name.", examples=["project-alpha"])
    ]
    session_key: Annotated[
        str | None,
        Field(
            description="OpenClaw's key of it; null: the call had none.",
            examples=["agent:main:main"],
        ),
    ]
    provider: Annotated[str, Field(examples=["anthropic"])]
    model: Annotated[
        str | None,
        Field(
            description="As messages name it: with the provider, if CHOWDER_PROVIDERS names that.",
            examples=["gpt-4o"],
        ),
    ]
    is_billed: Annotated[
        bool, Field(description="Whether a provider bills it; the offline model does not.")
    ]

    @classmethod
    def from_row(cls, row: SpendingRow) -> Self:
        key = row.key
        return cls(
            instance_id=key.instance_id,
            day=key.day,
            session=row.session_name,
            session_key=key.session_key or None,
            provider=key.provider,
            model=key.model or None,
            is_billed=key.is_billed,
            **vars(row.spending.counts),
            cost_usd=row.spending.cost_usd,
        )


class PricesView(BaseModel):
    """The price lists that costs are from, unless CHOWDER_PRICES has the model."""

    as_of: Annotated[str, Field(examples=[prices.AS_OF])] = prices.AS_OF
    sources: Annotated[list[str], Field(examples=[list(prices.SOURCES)])] = list(prices.SOURCES)


class UsageReportView(BaseModel):
    """The usage: totals, and the latest rows."""

    totals: UsageView
    rows: list[UsageRowView]
    has_more: Annotated[bool, Field(description="Whether there are more rows than `limit`.")]
    prices: PricesView

    @classmethod
    def from_report(cls, report: SpendingReport) -> Self:
        return cls(
            totals=UsageView.from_spending(report.totals),
            rows=[UsageRowView.from_row(row) for row in report.rows],
            has_more=report.has_more,
            prices=PricesView(),
        )
