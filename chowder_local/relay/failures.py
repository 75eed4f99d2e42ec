"""Remembers failures of model calls: they cross OpenClaw as a marker and are found again."""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.domain import SandboxId
    from chowder_local.errors import ChowderError

_PREFIX = "relay-failure-"
_MARKER = re.compile(_PREFIX + "[0-9a-f]{32}")


class _Entry(NamedTuple):
    failure: ChowderError
    sandbox_id: SandboxId | None
    at_s: float


class FailureLog:
    """The latest failures by their markers, which nobody can guess."""

    def __init__(self, capacity: int = 1024, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock_s = clock_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def remember(self, failure: ChowderError, sandbox_id: SandboxId | None) -> str:
        """A marker under which the failure is found for as long as newer ones leave room.

        Without a sandbox, if it is not known whose call failed, it is found by nothing else.
        """
        marker = _PREFIX + secrets.token_hex(16)
        self._entries[marker] = _Entry(failure, sandbox_id, self._clock_s())
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return marker

    def find(self, text: str) -> ChowderError | None:
        """The failure whose marker is anywhere in a text; the last one, if there are several."""
        for marker in reversed(_MARKER.findall(text)):
            if entry := self._entries.get(marker):
                return entry.failure
        return None

    def latest(self, sandbox_id: SandboxId, since_s: float) -> ChowderError | None:
        """A sandbox's newest failure that is not older than `since_s` of the same clock.

        For errors on which OpenClaw puts words of its own: a stream that broke off is its "408
        upstream provider timeout", a prompt that it cannot shorten its "500 internal error".
        """
        for entry in reversed(self._entries.values()):
            if entry.at_s < since_s:
                return None
            if entry.sandbox_id == sandbox_id:
                return entry.failure
        return None
