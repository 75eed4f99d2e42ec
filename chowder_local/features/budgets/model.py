"""Budgets: their limits and periods, and the bodies of their calls."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, Field, StrictInt, model_validator

from chowder_local.api.schemas.fields import View
from chowder_local.core.domain import MAX_USD
from chowder_local.core.strict_model import StrictModel
from chowder_local.relay.wire.wire_format import MAX_TOKENS


class BudgetPeriod(StrEnum):
    """In which time a budget may be spent: a day or a month, in UTC, or since it was set."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def begin(self, at: datetime) -> datetime:
        """The beginning of the day or month of a time; the time itself for a total."""
        if self is BudgetPeriod.TOTAL:
            return at
        day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return day if self is BudgetPeriod.DAY else day.replace(day=1)

    def end(self, begin: datetime) -> datetime | None:
        """When a period ends that began then; None for a total."""
        if self is BudgetPeriod.TOTAL:
            return None
        days = 1 if self is BudgetPeriod.DAY else monthrange(begin.year, begin.month)[1]
        return begin + timedelta(days=days)


@dataclass(frozen=True)
class BudgetLimits:
    """The most that model calls may take in a period; None is no limit."""

    per: BudgetPeriod
    usd: float | None = None
    tokens: int | None = None
    model_calls: int | None = None


@dataclass(frozen=True)
class Spent:
    """What model calls have taken."""

    usd: float = 0.0
    tokens: int = 0
    model_calls: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.usd + other.usd,
            self.tokens + other.tokens,
            self.model_calls + other.model_calls,
        )

    def __sub__(self, other: Spent) -> Spent:
        return self + Spent(-other.usd, -other.tokens, -other.model_calls)


class BudgetSetting(StrictModel):
    """A budget: the most that model calls may take in a period. What is left out has no limit."""

    usd: Annotated[
        float | None,
        Field(
            ge=0,
            le=MAX_USD,
            allow_inf_nan=False,
            description="USD at list price, or that of CHOWDER_PRICES.",
            examples=[5],
        ),
    ] = None
    tokens: Annotated[
        StrictInt | None,
        Field(ge=0, le=MAX_TOKENS, description="Input and output tokens.", examples=[None]),
    ] = None
    model_calls: Annotated[
        StrictInt | None,
        Field(
            ge=0,
            le=MAX_TOKENS,
            description="Model calls, with those that the offline model answers.",
            examples=[None],
        ),
    ] = None
    per: Annotated[
        BudgetPeriod,
        Field(
            description="`day` and `month` are those of UTC; `total` is since the budget was set.",
            examples=["day"],
        ),
    ]

    @model_validator(mode="after")
    def _has_limit(self) -> Self:
        if self.usd is None and self.tokens is None and self.model_calls is None:
            raise ValueError("Give usd, tokens or model_calls")
        return self

    @property
    def limits(self) -> BudgetLimits:
        return BudgetLimits(self.per, self.usd, self.tokens, self.model_calls)


class SpentView(View):
    """What model calls have taken. Calls of the offline model take no USD and no tokens."""

    usd: Annotated[float, Field(examples=[1.25])]
    tokens: Annotated[int, Field(examples=[310_000])]
    model_calls: Annotated[int, Field(examples=[42])]


class BudgetView(BaseModel):
    """A budget, and what has been spent of it."""

    usd: Annotated[float | None, Field(description="Null: no limit.", examples=[5])]
    tokens: Annotated[int | None, Field(description="Null: no limit.", examples=[None])]
    model_calls: Annotated[int | None, Field(description="Null: no limit.", examples=[None])]
    per: BudgetPeriod
    since: Annotated[datetime, Field(description="The beginning of the period.")]
    until: Annotated[
        datetime | None,
        Field(description="The end of the period, when nothing is spent again; null for a total."),
    ]
    spent: SpentView
    reserved: Annotated[
        SpentView, Field(description="The most that the calls in progress can take.")
    ]
    refused_at: Annotated[
        datetime | None,
        Field(description="When a call was last refused in this period.", examples=[None]),
    ]
    message: Annotated[
        str | None,
        Field(
            description="What that call was told.",
            examples=[None],
        ),
    ]
