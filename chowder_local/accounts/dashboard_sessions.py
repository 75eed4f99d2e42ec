"""Sessions of the dashboard. Each stands for an organization key and opens only the dashboard."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from chowder_local.core.domain import Caller
from chowder_local.core.errors.requests import (
    OrganizationKeyRequired,
    SignInLinkUsed,
    SignInNeeded,
)
from chowder_local.core.secrets import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.accounts.authentication import Authentication
    from chowder_local.core.domain import KeyId
    from chowder_local.core.secrets import SecretBox
    from chowder_local.store.keys import DashboardSessionQueries, KeyQueries

SESSION_LIFE_S = 7 * 24 * 3600
LINK_LIFE_S = 120
_LINK = "dashboard"


class DashboardSessions:
    """A session is a random token in a cookie, and a row with the key that began it.

    It ends with its key, by signing out, or after a week. Browsers send cookies to every port of a
    host, so an agent may get a session; it opens the dashboard's pages only, and is no key.
    """

    def __init__(
        self,
        *,
        authentication: Authentication,
        keys: KeyQueries,
        sessions: DashboardSessionQueries,
        box: SecretBox,
        store_id: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._authentication = authentication
        self._keys = keys
        self._sessions = sessions
        self._box = box
        self._clock = clock
        self._used_links: dict[str, float] = {}
        self.cookie = f"chowder_{store_id}"
        """The cookie's name, with the store's id: browsers ignore the port of a cookie."""

    async def begin(self, raw_key: str | None) -> str:
        """A new session for an organization key.

        Raises KeyMissing if there is no key, KeyInvalid if it is not valid, and
        OrganizationKeyRequired if it is a scoped key: the pages show the whole organization.
        """
        caller = await self._authentication.caller(raw_key)
        if not caller.is_organization_key:
            raise OrganizationKeyRequired
        return await self._begin(caller.key_id)

    async def redeem(self, link: str) -> str:
        """A new session for a link. Raises SignInLinkUsed if it was used, is too old or invalid."""
        now = self._clock()
        content = self._box.decrypt_link(link, _LINK, now, LINK_LIFE_S)
        self._used_links = {
            code: until_s for code, until_s in self._used_links.items() if until_s > now.timestamp()
        }
        if content is None or content["id"] in self._used_links:
            raise SignInLinkUsed
        self._used_links[content["id"]] = now.timestamp() + LINK_LIFE_S
        key = await self._keys.by_digest(content["key_digest"])
        if key is None or not key.is_valid(now) or not key.is_organization_key:
            raise SignInLinkUsed
        return await self._begin(key.id)

    async def caller(self, session: str | None) -> Caller:
        """The caller with this session. Raises SignInNeeded if it is missing or has ended."""
        now = self._clock()
        key_id = await self._sessions.key_id(digest(session), now) if session else None
        key = await self._keys.get(key_id) if key_id is not None else None
        if key is None or not key.is_valid(now):
            raise SignInNeeded
        return Caller(organization_id=key.organization_id, key_id=key.id)

    async def end(self, session: str | None) -> None:
        """Ends a session, if there is one."""
        if session:
            await self._sessions.remove(digest(session))

    async def _begin(self, key_id: KeyId) -> str:
        session, now = secrets.token_urlsafe(32), self._clock()
        expires_at = now + timedelta(seconds=SESSION_LIFE_S)
        await self._sessions.add(digest(session), key_id, now=now, expires_at=expires_at)
        return session


def sign_in_link(box: SecretBox, raw_key: str, now: datetime) -> str:
    """The token of a link that signs in once, within two minutes.

    It needs the data directory's secret, and has the digest of the key, not the key.
    """
    content = {"id": secrets.token_hex(16), "key_digest": digest(raw_key)}
    return box.encrypt_link(_LINK, content, now)
