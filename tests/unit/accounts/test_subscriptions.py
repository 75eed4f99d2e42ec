"""Checkout and portal links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.accounts.organizations import Subscriptions
from chowder_local.core.domain import OrganizationId
from chowder_local.core.errors.requests import LinkInvalid
from chowder_local.core.secrets import SecretBox

if TYPE_CHECKING:
    from tests.unit.accounts.conftest import Accounts


@pytest.fixture
def subscriptions(accounts: Accounts) -> Subscriptions:
    return Subscriptions(accounts.organizations, accounts.secret_box, accounts.clock)


@pytest.fixture
async def organization_id(accounts: Accounts) -> OrganizationId:
    details, _ = await accounts.organizations.signup("Kitchen")
    return details.organization.id


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
