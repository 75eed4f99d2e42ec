"""Waiting for a condition, with a deadline and an error for when it is missed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_S = 0.005
"""What a wait may be too long by; it is the same for everybody who is measured."""


class NotMeasured(Exception):
    """A row could not be measured; the message says why."""


def until(
    look: Callable[[], T | None], what: str, timeout_s: float = 180.0, poll_s: float = POLL_S
) -> T:
    """What `look` finds once it finds something. Raises NotMeasured."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise NotMeasured(f"{what}: not within {timeout_s:g} s")
        # Another process does not say when it has changed: it has to be asked.
        time.sleep(poll_s)
    return found


def ms_since(began_s: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - began_s) * 1000
