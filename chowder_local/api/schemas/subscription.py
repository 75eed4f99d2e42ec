"""Bodies: tiers, and the links to pages that change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, Field

from chowder_local.core.domain import Tier

if TYPE_CHECKING:
    from chowder_local.accounts.organizations import OrganizationDetails


class SubscriptionView(BaseModel):
    """A tier and how much of it is used; the ids are null until something was paid for."""

    tier: Tier
    instance_limit: int | None
    instance_count: int
    stripe_customer_id: Annotated[str | None, Field(examples=["cus_0a1b2c"])]
    stripe_subscription_id: Annotated[str | None, Field(examples=["sub_0a1b2c"])]

    @classmethod
    def of(cls, details: OrganizationDetails) -> Self:
        """The view of an organization's subscription."""
        organization = details.organization
        return cls(
            tier=organization.tier,
            instance_limit=details.instance_limit,
            instance_count=details.instance_count,
            stripe_customer_id=organization.stripe_customer_id,
            stripe_subscription_id=organization.stripe_subscription_id,
        )


class CheckoutCreation(BaseModel):
    """The tier that is to be paid for."""

    tier: Literal[Tier.CRAB, Tier.LOBSTER]


class LinkView(BaseModel):
    """A page for a browser; the link works for an hour."""

    url: Annotated[str, Field(examples=["http://127.0.0.1:2469/local/portal?token=…"])]
