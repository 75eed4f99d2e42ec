"""Filters the headers of requests to an upstream and of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REPLACED = frozenset({"host", "content-length", "accept-encoding", "expect"})
_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "cookie"})
_NOT_BACK = frozenset({"set-cookie", "date", "server"})


def for_upstream(
    headers: Iterable[tuple[str, str]], credential: tuple[str, str] | None
) -> list[tuple[str, str]]:
    """The caller's headers with its credentials replaced by ours, if there is one."""
    ours = [] if credential is None else [credential]
    kept = _without(headers, _REPLACED | _CREDENTIALS | {name.lower() for name, _ in ours})
    # Bytes are forwarded unchanged, and the caller may not know a compression.
    return [*kept, ("accept-encoding", "identity"), *ours]


def for_caller(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an answer that the caller gets; its body is forwarded unchanged."""
    return _without(headers, _NOT_BACK)


def _without(headers: Iterable[tuple[str, str]], dropped: Collection[str]) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in headers]
    # Headers that `Connection` names are for one hop only, too.
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == "connection"
        for token in value.split(",")
    }
    unwanted = _HOP_BY_HOP | named | set(dropped)
    return [pair for pair in pairs if pair[0] not in unwanted]
