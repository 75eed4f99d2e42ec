"""Waiting for a condition, with a deadline and words for when it is missed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_S = 0.05


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = 60.0) -> T:
    """What `look` finds once it finds something; fails with `what` and its last answer."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s; last seen: {found!r}")
        time.sleep(POLL_S)
    return found
