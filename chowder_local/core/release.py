"""The numbers of OpenClaw's releases (pure)."""

from __future__ import annotations

import re

RELEASE_PATTERN = r"([0-9]{4})\.([0-9]{1,2})\.([0-9]{1,3})(?:-([0-9a-z.]{1,20}))?"
_RELEASE = re.compile(RELEASE_PATTERN)


def is_release(text: str) -> bool:
    """Whether a text is the number of a release, such as 2026.9.6 or 2026.7.2-beta.1."""
    return _RELEASE.fullmatch(text) is not None


def release_order(release: str) -> tuple[int, int, int, bool, str]:
    """A key by which a newer release is greater. Raises ValueError for another text."""
    if (match := _RELEASE.fullmatch(release)) is None:
        raise ValueError(f"{release!r} is no release of OpenClaw.")
    year, month, patch, suffix = match.groups()
    # A suffix of digits is a later packing of the same release, others come before it.
    is_final = suffix is None or suffix.isdigit()
    return int(year), int(month), int(patch), is_final, suffix or ""
