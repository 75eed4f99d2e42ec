"""Lets in only what is meant for this server: neither another name's requests nor other sites'."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from chowder_local.core.errors.requests import HostUnknown, PageRefused
from chowder_local.http.error_rendering import error_response
from chowder_local.http.headers import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from chowder_local.core.errors import ChowderError

LOOPBACK_ORIGIN = r"https?://(localhost|[a-z0-9-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_LOOPBACK_PAGE = re.compile(LOOPBACK_ORIGIN)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:/@\s]+))(?::\d*)?", re.IGNORECASE)


class OriginGuard:
    """Refuses before anything has an effect.

    A page that has its own name lead to us, by a rebinding of DNS, is of our origin to its browser,
    which then neither asks us first nor hides our answers; what gives it away is the name. A page
    of another site may send simple requests without being asked; its browser says whence.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = _LOOPBACK_NAMES | {host_name(_bracketed(host)) for host in hosts}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._error(scope)) is not None:
            await error_response(error, scope)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _error(self, scope: Scope) -> ChowderError | None:
        fields = fields_of(scope)
        host = fields.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host_name(host), scope):
            return HostUnknown(host)
        if scope["method"] in _READING:
            return None
        origin, site = (
            None if value is None else value.decode("latin-1")
            for value in (fields.get(b"origin"), fields.get(b"sec-fetch-site"))
        )
        return None if self._may_change(host, origin, site) else PageRefused(origin or site or "")

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._hosts or name.endswith(".localhost"):
            return True
        # The very address that the request came to: no name, so nobody can have it lead elsewhere.
        server = scope.get("server")
        return bool(name) and server is not None and name == server[0].removeprefix("::ffff:")

    def _may_change(self, host: str, origin: str | None, site: str | None) -> bool:
        if origin is None or origin == "null":
            # Where a page is told not to say who it is, its browser still says whether it is ours.
            # What says nothing at all is no browser.
            return site in {"same-origin", "none"} or (origin is None and site is None)
        if not self._origins.isdisjoint({origin, "*"}) or _LOOPBACK_PAGE.fullmatch(origin):
            return True
        return origin.partition("://")[2] == host


def _bracketed(host: str) -> str:
    """The host as it stands in a request's head; a bare IPv6 address has no port."""
    return f"[{host}]" if host.count(":") > 1 and "[" not in host else host


@lru_cache(maxsize=64)
def host_name(authority: str) -> str:
    """The name in a `Host`, in small letters and without port; empty if it is none."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return ""
    return (found[1] or found[2]).lower().removesuffix(".")
