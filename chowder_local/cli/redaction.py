"""Takes secrets out of texts that are to be shown to others (pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARK = "[redacted]"
SHORTEST = 6
"""A shorter value is no secret, and to take it out would spoil words that it is in."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.I)
_SECRETS = re.compile(
    # Our own keys, then a sandbox's tokens, those of the providers, and what goes with a scheme.
    r"chd_(?:org|sk)_[\w-]+"
    r"|chowder-[0-9a-f]{12}\.[\w-]{16,}"
    r"|\b(?:sk-|AIza|ghp_|xox[a-z]-)[\w-]{8,}"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?<=://)[^/\s\"'@]+(?=@)"
)


def of_environment(env: Mapping[str, str]) -> set[str]:
    """The values of variables whose names say that they are secret."""
    return {value for name, value in env.items() if _SECRET_NAME.search(name)}


def redacted(text: str, known: Iterable[str] = ()) -> str:
    """The text without the secrets that are known, and without what looks like one."""
    # The longest first: one may be the beginning of another.
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, MARK)
    return _SECRETS.sub(MARK, text)
