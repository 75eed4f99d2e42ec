"""Links to the checkout and portal pages, on which an organization changes its tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.core.domain import OrganizationId, Tier
from chowder_local.core.errors.requests import LinkInvalid, OrganizationNotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.accounts.organizations import OrganizationDetails, Organizations
    from chowder_local.core.secrets import SecretBox

LINK_LIFE_S = 3600


@dataclass(frozen=True)
class Checkout:
    """An organization, and the tier of a checkout."""

    details: OrganizationDetails
    tier: Tier


@dataclass(eq=False, repr=False)
class Subscriptions:
    """A link opens its page for an hour, without a key.

    It contains the organization and the tier, encrypted, so the server stores no links.
    """

    organizations: Organizations
    box: SecretBox
    clock: Callable[[], datetime]

    def checkout_session(self, organization_id: OrganizationId, tier: Tier) -> str:
        """The token of a checkout link."""
        content = {"organization_id": organization_id, "tier": tier}
        return self.box.encrypt_link("checkout", content, self.clock())

    def portal_session(self, organization_id: OrganizationId) -> str:
        """The token of a portal link."""
        content = {"organization_id": organization_id}
        return self.box.encrypt_link("portal", content, self.clock())

    async def checkout(self, session: str) -> Checkout:
        """The checkout of a link. Raises LinkInvalid if the link has expired or is damaged."""
        details, content = await self._read(session, "checkout")
        return Checkout(details, Tier(content["tier"]))

    async def pay(self, session: str) -> None:
        """Moves the organization to the checkout's tier. Raises LinkInvalid like `checkout`."""
        checkout = await self.checkout(session)
        await self._move(checkout.details, checkout.tier)

    async def portal(self, session: str) -> OrganizationDetails:
        """The organization of a portal link. Raises LinkInvalid if it has expired or is damaged."""
        details, _ = await self._read(session, "portal")
        return details

    async def choose(self, session: str, tier: Tier) -> None:
        """Moves a portal's organization to a tier. Raises LinkInvalid like `portal`."""
        await self._move(await self.portal(session), tier)

    async def _move(self, details: OrganizationDetails, tier: Tier) -> None:
        await self.organizations.move(details.organization.id, tier, is_paid_for=True)

    async def _read(self, session: str, kind: str) -> tuple[OrganizationDetails, dict[str, str]]:
        content = self.box.decrypt_link(session, kind, self.clock(), LINK_LIFE_S)
        if content is None:
            raise LinkInvalid
        try:
            owner = OrganizationId(content["organization_id"])
            return await self.organizations.details(owner), content
        except OrganizationNotFound:
            raise LinkInvalid from None
