"""Bodies: sign-up, organizations and subscriptions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import Id, Name
from chowder_local.core.domain import ModelProvider, Tier

if TYPE_CHECKING:
    from chowder_local.accounts.organizations import OrganizationDetails

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
