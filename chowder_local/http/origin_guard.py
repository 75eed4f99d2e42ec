"""Refuses requests for other host names, and changes that pages of other sites request."""

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
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:/@\s]+))(?::\d*)?", re.IGNORECASE)


class OriginGuard:
    """Protects against DNS rebinding and cross-site requests.

    After DNS rebinding, a foreign page has this server's origin to its browser, and only the `Host`
    header differs. A page of another site may send simple requests without a CORS preflight; its
    browser names the site in `Origin` or `Sec-Fetch-Site`.
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
        if scope["method"] in _SAFE_METHODS:
            return None
        origin, site = (
            None if value is None else value.decode("latin-1")
            for value in (fields.get(b"origin"), fields.get(b"sec-fetch-site"))
        )
        return None if self._may_change(host, origin, site) else PageRefused(origin or site or "")

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._hosts or name.endswith(".localhost"):
            return True
        # The address that the request came to: not a name, so that DNS cannot rebind it.
        server = scope.get("server")
        return bool(name) and server is not None and name == server[0].removeprefix("::ffff:")

    def _may_change(self, host: str, origin: str | None, site: str | None) -> bool:
        if origin is None or origin == "null":
            # A browser that hides the origin still sends Sec-Fetch-Site; a program sends neither.
            return site in {"same-origin", "none"} or (origin is None and site is None)
        if not self._origins.isdisjoint({origin, "*"}) or _LOOPBACK_PAGE.fullmatch(origin):
            return True
        return origin.partition("://")[2] == host


def _bracketed(host: str) -> str:
    """The host as a `Host` header has it; a bare IPv6 address has no port."""
    return f"[{host}]" if host.count(":") > 1 and "[" not in host else host


@lru_cache(maxsize=64)
def host_name(authority: str) -> str:
    """The name in a `Host` header, in lower case and without port; empty if it is invalid."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return ""
    return (match[1] or match[2]).lower().removesuffix(".")
