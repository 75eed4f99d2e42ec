"""The published calls as requests that change nothing, for tests of all calls."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from chowder_local.conformance import published

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.published import PublishedCall

NOWHERE = str(uuid.UUID(int=0))
ENDS = ("stopInstance", "startInstance", "deleteInstance")
"""Calls that change something without any body, if they are allowed and of something there."""
BODIES: dict[str, Any] = {"updateSkill": {"enabled": "neither"}}
"""What changes nothing where an empty object could."""


def calls(*access: str) -> Iterator[tuple[str, PublishedCall]]:
    """The ids and calls with one of these accesses; all if none is named."""
    for operation, call in published.read().calls.items():
        if not access or call.access in access:
            yield operation, call


def send(client: ContractClient, operation: str, instance_id: str = NOWHERE) -> httpx.Response:
    """Sends a request without any required member, which changes nothing unless it is of ENDS."""
    call = published.read().calls[operation]
    places = {
        "id": NOWHERE if operation in {"getKey", "revokeKey"} else instance_id,
        # To disconnect one needs no body.
        "channel": "pigeon" if operation == "disconnectChannel" else "telegram",
        "name": "no-such-skill",
        "session_id": "a-session",
    }
    body = BODIES.get(operation, {}) if call.required or call.optional else None
    path = call.path.format_map(places)
    return client.request(call.method, path, **({} if body is None else {"json": body}))
