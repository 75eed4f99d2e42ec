"""Checkout and portal links."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.organizations import LINK_LIFE_S, Subscriptions
from chowder_local.core.domain import OrganizationId, Tier
from chowder_local.core.errors.requests import LinkInvalid, OrganizationNotFound
from chowder_local.core.secrets import SecretBox

if TYPE_CHECKING:
    from tests.unit.accounts.conftest import Accounts


@pytest.fixture
def subscriptions(accounts: Accounts) -> Subscriptions:
    return Subscriptions(accounts.organizations, accounts.box, accounts.clock)


@pytest.fixture
async def organization_id(accounts: Accounts) -> OrganizationId:
    details, _ = await accounts.organizations.signup("Kitchen")
    return details.organization.id


async def tier(accounts: Accounts, organization_id: OrganizationId) -> Tier:
    return (await accounts.organizations.details(organization_id)).organization.tier


async def test_viewing_a_checkout_changes_nothing(
    accounts: Accounts, subscriptions: Subscriptions, organization_id: OrganizationId
) -> None:
    session = subscriptions.checkout_session(organization_id, Tier.CRAB)
    checkout = await subscriptions.checkout(session)
    assert (checkout.details.organization.id, checkout.tier) == (organization_id, Tier.CRAB)
    assert await tier(accounts, organization_id) is Tier.SHRIMP


async def test_paying_moves_to_the_tier_and_sets_the_ids(
    accounts: Accounts, subscriptions: Subscriptions, organization_id: OrganizationId
) -> None:
    await subscriptions.pay(subscriptions.checkout_session(organization_id, Tier.CRAB))
    first = (await accounts.organizations.details(organization_id)).organization
    assert first.tier is Tier.CRAB
    assert first.stripe_customer_id
    assert first.stripe_customer_id.startswith("cus_local_")
    assert first.stripe_subscription_id
    assert first.stripe_subscription_id.startswith("sub_local_")
    await subscriptions.pay(subscriptions.checkout_session(organization_id, Tier.LOBSTER))
    second = (await accounts.organizations.details(organization_id)).organization
    assert second.tier is Tier.LOBSTER
    assert second.stripe_subscription_id == first.stripe_subscription_id


@pytest.mark.parametrize("chosen", list(Tier))
async def test_the_portal_moves_to_any_tier(
    accounts: Accounts, subscriptions: Subscriptions, organization_id: OrganizationId, chosen: Tier
) -> None:
    session = subscriptions.portal_session(organization_id)
    await subscriptions.choose(session, chosen)
    details = await subscriptions.portal(session)
    assert details.organization.tier is chosen
    assert (details.organization.stripe_subscription_id is None) == (chosen is Tier.SHRIMP)


async def test_a_link_works_until_it_expires(
    accounts: Accounts, subscriptions: Subscriptions, organization_id: OrganizationId
) -> None:
    session = subscriptions.checkout_session(organization_id, Tier.CRAB)
    accounts.clock.now += timedelta(seconds=LINK_LIFE_S)
    assert (await subscriptions.checkout(session)).tier is Tier.CRAB
    accounts.clock.now += timedelta(seconds=1)
    with pytest.raises(LinkInvalid):
        await subscriptions.checkout(session)
    with pytest.raises(LinkInvalid):
        await subscriptions.pay(session)
    assert await tier(accounts, organization_id) is Tier.SHRIMP


async def test_a_checkout_link_opens_no_portal_and_a_portal_link_no_checkout(
    accounts: Accounts, subscriptions: Subscriptions, organization_id: OrganizationId
) -> None:
    checkout = subscriptions.checkout_session(organization_id, Tier.CRAB)
    portal = subscriptions.portal_session(organization_id)
    with pytest.raises(LinkInvalid):
        await subscriptions.choose(checkout, Tier.WHALE)
    with pytest.raises(LinkInvalid):
        await subscriptions.pay(portal)
    assert await tier(accounts, organization_id) is Tier.SHRIMP


@pytest.mark.parametrize("session", ["", "x", "gAAAAA==", "Ærø", "a" * 10_000, "\0"])
async def test_an_invented_link_is_invalid(subscriptions: Subscriptions, session: str) -> None:
    with pytest.raises(LinkInvalid):
        await subscriptions.checkout(session)


async def test_a_link_of_another_server_is_invalid(
    accounts: Accounts, subscriptions: Subscriptions, organization_id: OrganizationId
) -> None:
    other = Subscriptions(accounts.organizations, SecretBox(b"o" * 32), accounts.clock)
    with pytest.raises(LinkInvalid):
        await subscriptions.portal(other.portal_session(organization_id))


async def test_a_link_of_an_unknown_organization_is_invalid(
    subscriptions: Subscriptions,
) -> None:
    with pytest.raises(LinkInvalid):
        await subscriptions.portal(subscriptions.portal_session(OrganizationId("gone")))


async def test_an_unknown_organization_cannot_change_its_tier(accounts: Accounts) -> None:
    with pytest.raises(OrganizationNotFound):
        await accounts.organizations.move(OrganizationId("gone"), Tier.CRAB, is_paid_for=True)
