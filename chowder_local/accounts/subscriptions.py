"""Checkout and portal: links to pages on which an organization moves between tiers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """An organization as it is, and the tier that a checkout is for."""

    details: OrganizationDetails
    tier: Tier


class Subscriptions:
    """Whoever has a link may use the page that it leads to, for an hour and without a key.

    A link says itself what it is for, so nothing is kept of those that nobody follows.
    """

    def __init__(
        self, organizations: Organizations, box: SecretBox, clock: Callable[[], datetime]
    ) -> None:
        self._organizations = organizations
        self._box = box
        self._clock = clock

    def checkout_session(self, organization_id: OrganizationId, tier: Tier) -> str:
        """What a checkout's link carries."""
        return self._sealed({"checkout": organization_id, "tier": tier})

    def portal_session(self, organization_id: OrganizationId) -> str:
        """What a portal's link carries."""
        return self._sealed({"portal": organization_id})

    async def checkout(self, session: str) -> Checkout:
        """What a checkout's link is about. Raises LinkInvalid."""
        content = self._unsealed(session, "checkout")
        return Checkout(await self._details(content["checkout"]), Tier(content["tier"]))

    async def pay(self, session: str) -> None:
        """Moves the organization to the checkout's tier. Raises LinkInvalid."""
        checkout = await self.checkout(session)
        await self._move(checkout.details, checkout.tier)

    async def portal(self, session: str) -> OrganizationDetails:
        """The organization that a portal's link is about. Raises LinkInvalid."""
        return await self._details(self._unsealed(session, "portal")["portal"])

    async def choose(self, session: str, tier: Tier) -> None:
        """Moves a portal's organization to any tier. Raises LinkInvalid."""
        await self._move(await self.portal(session), tier)

    async def _move(self, details: OrganizationDetails, tier: Tier) -> None:
        await self._organizations.move(details.organization.id, tier, is_paid_for=True)

    async def _details(self, organization_id: str) -> OrganizationDetails:
        try:
            return await self._organizations.details(OrganizationId(organization_id))
        except OrganizationNotFound:
            raise LinkInvalid from None

    def _sealed(self, content: dict[str, Any]) -> str:
        return self._box.seal(json.dumps(content), self._clock())

    def _unsealed(self, session: str, kind: str) -> dict[str, Any]:
        text = self._box.unseal(session, self._clock(), LINK_LIFE_S)
        content: dict[str, Any] = {} if text is None else json.loads(text)
        if kind not in content:
            raise LinkInvalid
        return content
