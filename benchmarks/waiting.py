"""Waits for a condition with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_S = 0.005
"""The precision of a wait, which is the same for all subjects."""


class NotMeasured(Exception):
    """A row could not be measured. The message says why."""


def until(
    look: Callable[[], T | None], what: str, timeout_s: float = 180.0, poll_s: float = POLL_S
) -> T:
    """The first true result of `look`. Raises NotMeasured after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not (result := look()):
        if time.monotonic() > deadline:
            raise NotMeasured(f"{what}: not within {timeout_s:g} s")
        # Other processes send no notification, so the condition is polled.
        time.sleep(poll_s)
    return result


def ms_since(began_s: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return (time.perf_counter() - began_s) * 1000


def took_ms(call: Callable[[], object]) -> float:
    """The milliseconds that a call took."""
    began_s = time.perf_counter()
    call()
    return ms_since(began_s)
