"""Which conversation a model call is a part of: OpenClaw says so in its system prompt (pure)."""

from __future__ import annotations

import re

_LINE = re.compile(r"^Runtime: agent=[^\n|]* \| session=([^\s|]+) \|", re.MULTILINE)


def session_key_in(system: str) -> str | None:
    """OpenClaw's key of the session; None of a call that is no part of one, such as a summary.

    The last such line counts: what comes before may quote files, which may have one.
    """
    found = _LINE.findall(system)
    return found[-1] if found else None
