"""Who is signed in to the dashboard: a session instead of the key, good for nothing else."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from chowder_local.domain import Caller, KeyId
from chowder_local.errors.requests import (
    OrganizationKeyRequired,
    SignInLinkUsed,
    SignInNeeded,
)
from chowder_local.tokens import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.accounts.authentication import Authentication
    from chowder_local.store.keys import KeyQueries
    from chowder_local.store.meta import MetaQueries
    from chowder_local.tokens import Vault

SESSION_LIFE_S = 7 * 24 * 3600
LINK_LIFE_S = 120
ENDED = "dashboard.ended"
"""Where it is kept which sessions were ended before their time."""


class SignIns:
    """A session says itself by which key it began, so that nothing is kept but those that ended.

    It ends with its key, by signing out, or after a week. An agent that has one, because browsers
    send cookies to every port of a name, has no key: it opens the dashboard's pages only.
    """

    def __init__(
        self,
        *,
        authentication: Authentication,
        keys: KeyQueries,
        meta: MetaQueries,
        vault: Vault,
        store_id: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._authentication = authentication
        self._keys = keys
        self._meta = meta
        self._vault = vault
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
        return self._session(caller.key_id)

    async def redeem(self, link: str) -> str:
        """A new session for the code of a link, once. Raises SignInLinkUsed."""
        now = self._clock()
        content = _read(self._vault.unseal(link, now, LINK_LIFE_S), "dashboard-link")
        self._used_links = {
            code: until_s for code, until_s in self._used_links.items() if until_s > now.timestamp()
        }
        if content is None or content["dashboard-link"] in self._used_links:
            raise SignInLinkUsed
        self._used_links[content["dashboard-link"]] = now.timestamp() + LINK_LIFE_S
        key = await self._keys.by_digest(content["key"])
        if key is None or not key.is_good(now) or not key.is_organization_key:
            raise SignInLinkUsed
        return self._session(key.id)

    async def caller(self, session: str | None) -> Caller:
        """Whose session this is. Raises SignInNeeded if it is none, or over."""
        content = _read(
            self._vault.unseal(session or "", self._clock(), SESSION_LIFE_S), "dashboard"
        )
        if content is None or content["dashboard"] in await self._ended():
            raise SignInNeeded
        key = await self._keys.get(KeyId(content["key"]))
        if key is None or not key.is_good(self._clock()):
            raise SignInNeeded
        return Caller(organization_id=key.organization_id, key_id=key.id)

    async def end(self, session: str | None) -> None:
        """Ends a session, wherever it has got to; that of nobody is none to end."""
        now = self._clock()
        content = _read(self._vault.unseal(session or "", now, SESSION_LIFE_S), "dashboard")
        if content is None:
            return
        ended = {
            name: until_s
            for name, until_s in (await self._ended()).items()
            if until_s > now.timestamp()
        }
        ended[content["dashboard"]] = now.timestamp() + SESSION_LIFE_S
        await self._meta.put(ENDED, json.dumps(ended))

    def _session(self, key_id: KeyId) -> str:
        content = {"dashboard": secrets.token_hex(16), "key": key_id}
        return self._vault.seal(json.dumps(content), self._clock())

    async def _ended(self) -> dict[str, float]:
        kept = await self._meta.get(ENDED)
        found: dict[str, float] = {} if kept is None else json.loads(kept)
        return found


def sign_in_link(vault: Vault, raw_key: str, now: datetime) -> str:
    """The code of a link that signs in once, soon: made by who has the data directory's secret.

    The key is not in it, only what the store knows it by.
    """
    content = {"dashboard-link": secrets.token_hex(16), "key": digest(raw_key)}
    return vault.seal(json.dumps(content), now)


def _read(text: str | None, kind: str) -> dict[str, Any] | None:
    content: dict[str, Any] = {} if text is None else json.loads(text)
    # A link to a checkout is sealed in the same way.
    return content if kind in content else None
