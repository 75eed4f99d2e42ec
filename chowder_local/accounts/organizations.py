"""Organizations: sign-up, tiers, model keys, and the one of the first start."""

from __future__ import annotations

import logging
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.fernet import InvalidToken

from chowder_local.accounts.keys import organization_key
from chowder_local.core.domain import (
    OFFLINE_KEY,
    ModelProvider,
    Organization,
    OrganizationId,
    Tier,
)
from chowder_local.core.errors.requests import (
    LinkInvalid,
    OrganizationNotFound,
)
from chowder_local.core.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chowder_local.core.model_endpoints import Endpoint
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.organizations import OrganizationQueries

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OrganizationDetails:
    """An organization and the number of its instances."""

    organization: Organization
    instance_count: int
    offline_providers: tuple[ModelProvider, ...] = ()
    """Those of its providers for which the offline model answers."""

    @property
    def instance_limit(self) -> int | None:
        """The most instances that it may have; None is unlimited."""
        return self.organization.tier.instance_limit


@dataclass(eq=False, repr=False)
class Organizations:
    """Organizations. Model keys are plain text in its methods, and encrypted below them."""

    queries: OrganizationQueries
    secret_box: SecretBox
    clock: Callable[[], datetime]

    async def signup(
        self,
        name: str,
        *,
        tier: Tier = Tier.SHRIMP,
        model_keys: Mapping[ModelProvider, str] | None = None,
        organization_id: OrganizationId | None = None,
    ) -> tuple[OrganizationDetails, str]:
        """A new organization and its raw key, which is not stored."""
        now = self.clock()
        encrypted = self._encrypted(model_keys or {})
        organization = Organization(
            id=organization_id or OrganizationId(str(uuid.uuid4())),
            name=name,
            tier=tier,
            created_at=now,
            updated_at=now,
            model_providers=tuple(sorted(name for name, key in encrypted.items() if key)),
        )
        key, raw_key = organization_key(organization.id, now)
        await self.queries.add(organization, key, digest(raw_key), encrypted)
        log.info("Organization %s signed up as %s", organization.id, tier)
        return await self._detailed(organization), raw_key

    async def details(self, organization_id: OrganizationId) -> OrganizationDetails:
        """The organization's details. Raises OrganizationNotFound if it does not exist."""
        return await self._detailed(await self.queries.get(organization_id))

    async def change(
        self,
        organization_id: OrganizationId,
        *,
        name: str | None = None,
        model_api_keys: Mapping[ModelProvider, str] | None = None,
    ) -> OrganizationDetails:
        """Changes the name and the given model keys; "" removes a key.

        Raises OrganizationNotFound if it does not exist.
        """
        changed = await self.queries.change(
            organization_id,
            name=name,
            model_keys=self._encrypted(model_api_keys or {}),
            now=self.clock(),
        )
        return await self._detailed(changed)

    async def set_reuse(
        self, organization_id: OrganizationId, *, reuses_sandboxes: bool
    ) -> OrganizationDetails:
        """Sets whether new instances may get the sandboxes of deleted ones."""
        changed = await self.queries.set_reuse(
            organization_id, reuses_sandboxes=reuses_sandboxes, now=self.clock()
        )
        log.info("Organization %s reuses sandboxes: %s", organization_id, reuses_sandboxes)
        return await self._detailed(changed)

    async def move(
        self, organization_id: OrganizationId, tier: Tier, *, is_paid_for: bool
    ) -> OrganizationDetails:
        """Moves an organization to a tier. Its instances stay, even beyond the new limit.

        If `is_paid_for`, it gets a customer id and, for a paid tier, a subscription id like
        Stripe's. Raises OrganizationNotFound if it does not exist.
        """
        moved = await self.queries.subscribe(
            organization_id,
            tier,
            customer_id=_local_id("cus") if is_paid_for else None,
            subscription_id=_local_id("sub") if is_paid_for and tier.is_paid else None,
            now=self.clock(),
        )
        details = await self._detailed(moved)
        log.info("Organization %s moved to %s", organization_id, tier)
        return details

    async def model_key(
        self, organization_id: OrganizationId, provider: ModelProvider
    ) -> str | None:
        """The organization's key for a provider in plain text; None if it has none."""
        ciphertext = await self.queries.model_key(organization_id, provider)
        if ciphertext is None:
            return None
        try:
            return self.secret_box.decrypt(ciphertext)
        except InvalidToken:
            # The key counts as not set: the error for a missing key says how to set one.
            log.warning(
                "The %s key of organization %s was encrypted with another secret.key; set it again",
                provider,
                organization_id,
            )
            return None

    async def _detailed(self, organization: Organization | None) -> OrganizationDetails:
        if organization is None:
            raise OrganizationNotFound
        count = await self.queries.instance_count(organization.id)
        offline = [
            provider
            for provider in organization.model_providers
            if await self.model_key(organization.id, provider) == OFFLINE_KEY
        ]
        return OrganizationDetails(organization, count, tuple(offline))

    def _encrypted(
        self, model_keys: Mapping[ModelProvider, str]
    ) -> dict[ModelProvider, bytes | None]:
        # A pasted key often ends with a line break, which a header cannot contain.
        stripped = {provider: key.strip() for provider, key in model_keys.items()}
        return {
            provider: self.secret_box.encrypt(key) if key else None
            for provider, key in stripped.items()
        }


def _local_id(kind: str) -> str:
    return f"{kind}_local_{secrets.token_hex(7)}"


LINK_LIFE_S = 3600


@dataclass(eq=False, repr=False)
class ModelKeys:
    """The model keys of organizations and of the operator's endpoints."""

    organizations: Organizations
    endpoints: Mapping[str, Endpoint]
    default_organization_id: OrganizationId

    async def find(self, organization_id: OrganizationId, provider: str) -> str | None:
        """The key; "" if the provider needs none, None if the organization has none."""
        if (endpoint := self.endpoints.get(provider)) is None:
            if provider not in set(ModelProvider):
                return None
            return await self.organizations.model_key(organization_id, ModelProvider(provider))
        # Organizations that sign up must not spend the operator's money.
        if endpoint.has_secret and organization_id != self.default_organization_id:
            return None
        return endpoint.key


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
    secret_box: SecretBox
    clock: Callable[[], datetime]

    def checkout_session(self, organization_id: OrganizationId, tier: Tier) -> str:
        """The token of a checkout link."""
        content = {"organization_id": organization_id, "tier": tier}
        return self.secret_box.encrypt_link("checkout", content, self.clock())

    def portal_session(self, organization_id: OrganizationId) -> str:
        """The token of a portal link."""
        content = {"organization_id": organization_id}
        return self.secret_box.encrypt_link("portal", content, self.clock())

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
        content = self.secret_box.decrypt_link(session, kind, self.clock(), LINK_LIFE_S)
        if content is None:
            raise LinkInvalid
        try:
            owner = OrganizationId(content["organization_id"])
            return await self.organizations.details(owner), content
        except OrganizationNotFound:
            raise LinkInvalid from None
