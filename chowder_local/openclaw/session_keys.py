"""From a client's session name to the key that OpenClaw knows the conversation by (pure)."""

from __future__ import annotations

import hashlib

MAIN_KEY = "agent:main:main"


def session_key(name: str | None) -> str:
    """The key of a named conversation, or of the main one.

    OpenClaw lower-cases keys, mangles what is not ASCII and reserves some words, so a
    name never gets there itself: its digest does, which no two names share.
    """
    if name is None:
        return MAIN_KEY
    return f"agent:main:s-{hashlib.sha256(name.encode()).hexdigest()}"
