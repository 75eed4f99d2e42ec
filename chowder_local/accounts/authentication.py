"""Authenticates requests by their key, and makes new keys."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ApiKey, Caller, KeyId
from chowder_local.core.errors.requests import KeyInvalid, KeyMissing
from chowder_local.core.secrets import ORGANIZATION_PREFIX, digest, new_key, shown_prefix

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import OrganizationId
    from chowder_local.store.keys import KeyQueries

FIRST_KEY_NAME = "default"


@dataclass(eq=False, repr=False)
class Authentication:
    """Turns bearer tokens into callers."""

    keys: KeyQueries
    clock: Callable[[], datetime]

    async def caller(self, raw_key: str | None) -> Caller:
        """The caller with this key.

        Raises KeyMissing if there is none, and KeyInvalid if it is unknown, revoked or expired.
        """
        if not raw_key:
            raise KeyMissing
        key = await self.keys.by_digest(digest(raw_key))
        now = self.clock()
        if key is None or not key.is_valid(now):
            raise KeyInvalid
        self.keys.note_use(key.id, now)
        return Caller(
            organization_id=key.organization_id,
            key_id=key.id,
            is_organization_key=key.is_organization_key,
            grants=key.grants,
        )

    async def issue(self, organization_id: OrganizationId) -> str:
        """Adds an organization key, and returns its raw token, which is not stored."""
        key, raw_key = organization_key(organization_id, self.clock())
        await self.keys.add(key, digest(raw_key))
        return raw_key


def organization_key(organization_id: OrganizationId, now: datetime) -> tuple[ApiKey, str]:
    """A new organization key and its raw token."""
    return make_key(ORGANIZATION_PREFIX, organization_id, FIRST_KEY_NAME, now)


def make_key(
    prefix: str, organization_id: OrganizationId, name: str, now: datetime, **fields: Any
) -> tuple[ApiKey, str]:
    """A new key and its raw token; `fields` are the other fields of ApiKey."""
    raw_key = new_key(prefix)
    key_id, shown = KeyId(str(uuid.uuid4())), shown_prefix(raw_key)
    return ApiKey(key_id, organization_id, name, shown, now, **fields), raw_key
