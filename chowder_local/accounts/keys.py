"""The rules of scoped keys: their instances, expiry and visibility."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.accounts.authentication import make_key
from chowder_local.core.domain import InstanceId, KeyId
from chowder_local.core.errors.requests import InputInvalid, InstanceNotFound, KeyNotFound
from chowder_local.core.secrets import SCOPED_PREFIX, digest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from datetime import datetime

    from chowder_local.core.domain import ApiKey, OrganizationId, Permission
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.keys import KeyQueries

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class Keys:
    """Scoped keys. An organization key is not among them, so that nobody can lock themselves out.

    An expired key is inactive, like a revoked one.
    """

    keys: KeyQueries
    instances: InstanceQueries
    clock: Callable[[], datetime]

    async def create(
        self,
        organization_id: OrganizationId,
        name: str,
        instance_ids: Iterable[str],
        permissions: Iterable[Permission],
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its raw token, which is not stored.

        It gets each of the permissions for each of the instances. Raises InstanceNotFound if the
        organization lacks one of them, and InputInvalid if the expiry is not in the future.
        """
        now = self.clock()
        if expires_at is not None and expires_at <= now:
            raise InputInvalid([_PAST_EXPIRY])
        distinct_ids = {InstanceId(each) for each in instance_ids}
        if not await self.instances.has_all(organization_id, distinct_ids):
            raise InstanceNotFound
        key, raw_key = make_key(
            SCOPED_PREFIX,
            organization_id,
            name,
            now,
            expires_at=expires_at,
            is_organization_key=False,
            grants=dict.fromkeys(sorted(distinct_ids), frozenset(permissions)),
        )
        await self.keys.add(key, digest(raw_key))
        log.info("Organization %s created key %s", organization_id, key.id)
        return key, raw_key

    async def all(self, organization_id: OrganizationId) -> AsyncGenerator[list[ApiKey]]:
        """All scoped keys of an organization in pages, oldest first, without grants."""
        async with aclosing(self.keys.scoped(organization_id)) as pages:
            async for keys in pages:
                yield [self._with_state(key) for key in keys]

    async def latest(
        self, organization_id: OrganizationId, *, limit: int, before_id: str | None = None
    ) -> list[ApiKey]:
        """Its latest keys with grants, newest first; with `before_id`, those made before that key.

        Raises KeyNotFound if the organization has no key `before_id`.
        """
        before = None if before_id is None else await self.get(organization_id, before_id)
        keys = await self.keys.latest(organization_id, limit=limit, before=before)
        return [self._with_state(key) for key in keys]

    async def get(self, organization_id: OrganizationId, key_id: str) -> ApiKey:
        """A key with grants. Raises KeyNotFound if the organization has no such scoped key."""
        key = await self.keys.get(KeyId(key_id))
        if key is None or key.is_organization_key or key.organization_id != organization_id:
            raise KeyNotFound
        return self._with_state(key)

    async def revoke(self, organization_id: OrganizationId, key_id: str) -> None:
        """Revokes a key for later requests; to revoke it again changes nothing.

        Raises KeyNotFound if the organization has no such scoped key.
        """
        key = await self.get(organization_id, key_id)
        await self.keys.revoke(key.id)
        log.info("Organization %s revoked key %s", organization_id, key.id)

    async def remove_all(self, organization_id: OrganizationId) -> int:
        """Deletes all scoped keys of an organization, and returns their number."""
        count = await self.keys.remove_scoped(organization_id)
        log.info("Organization %s: %d scoped keys deleted", organization_id, count)
        return count

    def _with_state(self, key: ApiKey) -> ApiKey:
        return replace(key, is_active=key.is_valid(self.clock()))


_PAST_EXPIRY = {
    "loc": ["body", "expires_at"],
    "msg": "Input should be in the future",
    "type": "datetime_future",
}
