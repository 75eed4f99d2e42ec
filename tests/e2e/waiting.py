"""Waiting for a condition, with a deadline and words for when it is missed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_S = 0.05
LONGEST_POLL_S = 0.2


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = 60.0) -> T:
    """What `look` finds once it finds something; fails with `what` and its last answer."""
    began_s = time.monotonic()
    while not (found := look()):
        waited_s = time.monotonic() - began_s
        if waited_s > timeout_s:
            raise AssertionError(f"{what}: not within {timeout_s:g} s; last seen: {found!r}")
        # What takes long is slowed down by whoever asks for it all the time.
        time.sleep(min(max(POLL_S, waited_s / 20), LONGEST_POLL_S))
    return found
