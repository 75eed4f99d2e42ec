"""Bodies: organizations, scoped keys, and the usage and cost of model calls."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StrictBool,
)

from chowder_local.api.schemas.fields import Id, Name, View
from chowder_local.core.domain import (
    ModelProvider,
    Permission,
    Tier,
)
from chowder_local.core.strict_model import StrictModel
from chowder_local.relay import prices

if TYPE_CHECKING:
    from chowder_local.accounts.cost_report import Spending, SpendingReport, SpendingRow
    from chowder_local.accounts.organizations import OrganizationDetails
    from chowder_local.core.domain import ApiKey, Organization

# It is sent as a header, which other characters could end or split.
ModelKey = Annotated[str, Field(max_length=512, pattern=r"^[\x21-\x7e]*$")]


class Signup(BaseModel):
    """A new organization."""

    name: Name


class OrganizationChange(BaseModel):
    """Changes to an organization; model keys are merged with those that are set."""

    name: Name | None = None
    model_api_keys: dict[ModelProvider, ModelKey] | None = Field(
        None,
        description='A key for each provider; `""` removes one, `"offline"` selects the '
        "built-in offline model.",
        examples=[{"anthropic": "offline"}],
    )


class OrganizationView(BaseModel):
    """An organization; `model_providers` are those that it has a key for, which is never shown."""

    id: Id
    name: Annotated[str, Field(examples=["Kitchen"])]
    model_providers: list[ModelProvider]
    subscription_tier: Tier
    instance_limit: int | None
    instance_count: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_details(cls, details: OrganizationDetails) -> Self:
        organization = details.organization
        return cls(
            id=organization.id,
            name=organization.name,
            model_providers=list(organization.model_providers),
            subscription_tier=organization.tier,
            instance_limit=organization.tier.instance_limit,
            instance_count=details.instance_count,
            created_at=organization.created_at,
            updated_at=organization.updated_at,
        )


class SignupView(BaseModel):
    """A new organization and its key, which no other answer has."""

    organization: OrganizationView
    api_key: Annotated[str, Field(examples=["chd_org_…"])]


class SubscriptionView(BaseModel):
    """A tier and its use; the Stripe ids are null until the first checkout."""

    tier: Tier
    instance_limit: int | None
    instance_count: int
    stripe_customer_id: Annotated[str | None, Field(examples=["cus_0a1b2c"])]
    stripe_subscription_id: Annotated[str | None, Field(examples=["sub_0a1b2c"])]

    @classmethod
    def from_details(cls, details: OrganizationDetails) -> Self:
        organization = details.organization
        return cls(
            tier=organization.tier,
            instance_limit=details.instance_limit,
            instance_count=details.instance_count,
            stripe_customer_id=organization.stripe_customer_id,
            stripe_subscription_id=organization.stripe_subscription_id,
        )


class CheckoutCreation(BaseModel):
    """The tier to pay for."""

    tier: Literal[Tier.CRAB, Tier.LOBSTER]


class LinkView(BaseModel):
    """A link to a page for a browser; it works for an hour."""

    url: Annotated[str, Field(examples=["http://127.0.0.1:2469/local/portal?session=…"])]


MOST_INSTANCES = 1000


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is not within the years 1 to 9999 of UTC") from None


class KeyCreation(BaseModel):
    """A new scoped key: it has each of the permissions for each of the instances."""

    name: Name
    instance_ids: list[Id] = Field(
        min_length=1,
        max_length=MOST_INSTANCES,
        description="The instances that it is for. None may be terminated.",
    )
    permissions: list[Permission] = Field(
        min_length=1,
        max_length=MOST_INSTANCES,
        description="What it may do with them. No permission includes another one.",
        examples=[["read", "interact"]],
    )
    expires_at: Annotated[datetime, AfterValidator(_in_utc)] | None = Field(
        None, description="When it expires; a time without a zone is in UTC."
    )


class KeyView(View):
    """A scoped key; `is_active` is false once it is revoked or expired."""

    id: Id
    organization_id: Id
    name: Annotated[str, Field(examples=["the shop's page"])]
    key_prefix: Annotated[str, Field(validation_alias="prefix", examples=["chd_sk_Xy3k"])]
    is_active: bool
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


class IssuedKeyView(KeyView):
    """A new key with its token, which no other answer has."""

    raw_key: Annotated[str, Field(examples=["chd_sk_…"])]

    @classmethod
    def from_key(cls, key: ApiKey, raw_key: str) -> Self:
        return cls(**vars(key), raw_key=raw_key)


class GrantView(BaseModel):
    """What a key may do with one instance."""

    instance_id: Id
    permissions: list[Permission]


class KeyDetailsView(KeyView):
    """A key with its permissions for the instances that are not terminated."""

    instances: list[GrantView]

    @classmethod
    def from_key(cls, key: ApiKey) -> Self:
        instances = [
            GrantView(
                instance_id=instance_id,
                permissions=[each for each in Permission if each in permissions],
            )
            for instance_id, permissions in key.grants.items()
        ]
        return cls(**vars(key), instances=instances)


ROWS_MAX = 10_000


class UsageQuery(StrictModel):
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


class LocalOrganizationChange(StrictModel):
    """Settings of an organization that only the local server has."""

    reuses_sandboxes: Annotated[
        StrictBool,
        Field(
            description="Whether deleted agents leave their sandboxes to new ones. A gateway's "
            "memory may still have texts of the former agent; programs in it cannot read them."
        ),
    ]


class LocalOrganizationView(BaseModel):
    """The settings of an organization that only the local server has."""

    reuses_sandboxes: Annotated[
        bool,
        Field(
            description="Whether deleted agents leave their sandboxes to new ones, unless "
            "CHOWDER_REUSE says otherwise.",
            examples=[False],
        ),
    ]

    @classmethod
    def from_organization(cls, organization: Organization) -> Self:
        """The view of an organization."""
        return cls(reuses_sandboxes=organization.reuses_sandboxes)
