"""Sessions of the dashboard: each stands for a key, and is good for nothing else."""

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
    """A session is a random token in a cookie, and a row that says by which key it began.

    It ends with its key, by signing out, or after a week. An agent that has one, because browsers
    send cookies to every port of a name, has no key: it opens the dashboard's pages only.
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
        """The cookie's name: browsers do not tell the ports of a name apart."""

    async def begin(self, raw_key: str | None) -> str:
        """A new session. Raises KeyMissing, KeyInvalid, and OrganizationKeyRequired.

        A scoped key is made for a program, which may do the few things that it names; the pages
        show the whole organization, and no part of that is any scoped key's.
        """
        caller = await self._authentication.caller(raw_key)
        if not caller.is_organization_key:
            raise OrganizationKeyRequired
        return await self._begun(caller.key_id)

    async def redeem(self, link: str) -> str:
        """A new session for the code of a link, once. Raises SignInLinkUsed."""
        now = self._clock()
        content = self._box.decrypt_link(link, _LINK, now, LINK_LIFE_S)
        self._used_links = {
            code: until_s for code, until_s in self._used_links.items() if until_s > now.timestamp()
        }
        if content is None or content["id"] in self._used_links:
            raise SignInLinkUsed
        self._used_links[content["id"]] = now.timestamp() + LINK_LIFE_S
        key = await self._keys.by_digest(content["key_digest"])
        if key is None or not key.is_good(now) or not key.is_organization_key:
            raise SignInLinkUsed
        return await self._begun(key.id)

    async def caller(self, session: str | None) -> Caller:
        """Whose session this is. Raises SignInNeeded if it is none, or over."""
        now = self._clock()
        key_id = await self._sessions.key_id(digest(session), now) if session else None
        key = await self._keys.get(key_id) if key_id is not None else None
        if key is None or not key.is_good(now):
            raise SignInNeeded
        return Caller(organization_id=key.organization_id, key_id=key.id)

    async def end(self, session: str | None) -> None:
        """Ends a session, wherever it has got to; that of nobody is none to end."""
        if session:
            await self._sessions.remove(digest(session))

    async def _begun(self, key_id: KeyId) -> str:
        session, now = secrets.token_urlsafe(32), self._clock()
        expires_at = now + timedelta(seconds=SESSION_LIFE_S)
        await self._sessions.add(digest(session), key_id, now=now, expires_at=expires_at)
        return session


def sign_in_link(box: SecretBox, raw_key: str, now: datetime) -> str:
    """The code of a link that signs in once, soon: made by who has the data directory's secret.

    The key is not in it, only what the store knows it by.
    """
    content = {"id": secrets.token_hex(16), "key_digest": digest(raw_key)}
    return box.encrypt_link(_LINK, content, now)
