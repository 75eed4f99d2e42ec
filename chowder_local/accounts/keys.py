"""Keys: their rules, how requests are authenticated by them, and the dashboard's sessions."""

from __future__ import annotations

import logging
import secrets
import uuid
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ApiKey, Caller, InstanceId, KeyId
from chowder_local.core.errors.requests import (
    InputInvalid,
    InstanceNotFound,
    KeyInvalid,
    KeyMissing,
    KeyNotFound,
    OrganizationKeyRequired,
    SignInLinkUsed,
    SignInNeeded,
)
from chowder_local.core.secrets import (
    ORGANIZATION_PREFIX,
    SCOPED_PREFIX,
    digest,
    new_key,
    shown_prefix,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from datetime import datetime

    from chowder_local.core.domain import OrganizationId, Permission
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.instances import InstanceQueries
    from chowder_local.store.keys import DashboardSessionQueries, KeyQueries

log = logging.getLogger(__name__)

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


SESSION_LIFE_S = 7 * 24 * 3600
LINK_LIFE_S = 120
_LINK = "dashboard"


@dataclass(eq=False, repr=False, kw_only=True)
class DashboardSessions:
    """A session is a random token in a cookie, and a row with the key that began it.

    It ends with its key, by signing out, or after a week. Browsers send cookies to every port of a
    host, so an agent may get a session; it opens the dashboard's pages only, and is no key.
    """

    authentication: Authentication
    keys: KeyQueries
    sessions: DashboardSessionQueries
    secret_box: SecretBox
    store_id: str
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._used_links: dict[str, float] = {}
        self.cookie = f"chowder_{self.store_id}"
        """The cookie's name, with the store's id: browsers ignore the port of a cookie."""

    async def begin(self, raw_key: str | None) -> str:
        """A new session for an organization key.

        Raises KeyMissing if there is no key, KeyInvalid if it is not valid, and
        OrganizationKeyRequired if it is a scoped key: the pages show the whole organization.
        """
        caller = await self.authentication.caller(raw_key)
        if not caller.is_organization_key:
            raise OrganizationKeyRequired
        return await self._begin(caller.key_id)

    async def redeem(self, link: str) -> str:
        """A new session for a link. Raises SignInLinkUsed if it was used, is too old or invalid."""
        now = self.clock()
        content = self.secret_box.decrypt_link(link, _LINK, now, LINK_LIFE_S)
        self._used_links = {
            code: until_s for code, until_s in self._used_links.items() if until_s > now.timestamp()
        }
        if content is None or content["id"] in self._used_links:
            raise SignInLinkUsed
        self._used_links[content["id"]] = now.timestamp() + LINK_LIFE_S
        key = await self.keys.by_digest(content["key_digest"])
        if key is None or not key.is_valid(now) or not key.is_organization_key:
            raise SignInLinkUsed
        return await self._begin(key.id)

    async def caller(self, session: str | None) -> Caller:
        """The caller with this session. Raises SignInNeeded if it is missing or has ended."""
        now = self.clock()
        key_id = await self.sessions.key_id(digest(session), now) if session else None
        key = await self.keys.get(key_id) if key_id is not None else None
        if key is None or not key.is_valid(now):
            raise SignInNeeded
        return Caller(organization_id=key.organization_id, key_id=key.id)

    async def end(self, session: str | None) -> None:
        """Ends a session, if there is one."""
        if session:
            await self.sessions.remove(digest(session))

    async def _begin(self, key_id: KeyId) -> str:
        session, now = secrets.token_urlsafe(32), self.clock()
        expires_at = now + timedelta(seconds=SESSION_LIFE_S)
        await self.sessions.add(digest(session), key_id, now=now, expires_at=expires_at)
        return session


def sign_in_link(secret_box: SecretBox, raw_key: str, now: datetime) -> str:
    """The token of a link that signs in once, within two minutes.

    It needs the data directory's secret, and has the digest of the key, not the key.
    """
    content = {"id": secrets.token_hex(16), "key_digest": digest(raw_key)}
    return secret_box.encrypt_link(_LINK, content, now)
