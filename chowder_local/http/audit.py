"""Who has destroyed or opened something, and what: for the log, by ids, and never with a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from chowder_local.core.errors.requests import SHOWN_CHARACTERS
from chowder_local.core.secrets import without_keys

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

    from chowder_local.core.domain import Caller


def note(request: Request, **ids: str) -> None:
    """What an audited call is about, beside what its path says: ids and words of ours only."""
    request.scope["state"].setdefault("audited", {}).update(ids)


def audit_words(scope: Scope) -> str:
    """Whose key has made the call, and what it has noted; for the end of its line."""
    state = scope.get("state", {})
    caller: Caller | None = state.get("caller")
    who = "nobody"
    if caller is not None:
        kind = "organization key" if caller.is_organization_key else "key"
        who = f"{kind} {caller.key_id} of organization {caller.organization_id}"
    noted = [
        f", {name} {quote(without_keys(value[:SHOWN_CHARACTERS]))}"
        for name, value in state.get("audited", {}).items()
    ]
    return f" by {who}{''.join(noted)}"
