"""Maps session names to OpenClaw's session keys (pure)."""

from __future__ import annotations

import hashlib

from chowder_local.core.domain import MAIN_SESSION

MAIN_KEY = "agent:main:main"


def session_key(name: str | None) -> str:
    """The key of a named conversation; of the main one if `name` is None or `main`.

    The key has the name's digest: OpenClaw lower-cases keys, changes characters that are not ASCII
    and reserves some names.
    """
    if name in (None, MAIN_SESSION):
        return MAIN_KEY
    return f"agent:main:s-{hashlib.sha256(name.encode()).hexdigest()}"
