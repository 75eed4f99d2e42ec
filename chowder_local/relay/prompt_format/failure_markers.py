"""Remembers failures of model calls by markers that OpenClaw passes on in its errors."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from cachetools import FIFOCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import SandboxId
    from chowder_local.core.errors import ChowderError

PREFIX = "relay-failure-"
"""How each marker begins."""
_MARKER = re.compile(f"({PREFIX}[0-9a-f]{{32}})(?:-([a-p]*))?")
_FROM_HEX = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_TO_HEX = str.maketrans("abcdefghijklmnop", "0123456789abcdef")
_MESSAGE_MAX_BYTES = 600


class _Entry(NamedTuple):
    failure: ChowderError
    sandbox_id: SandboxId | None
    at_s: float


class FailureMarkers:
    """The latest failures by marker. Markers cannot be guessed."""

    def __init__(self, capacity: int = 1024, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._entries: FIFOCache[str, _Entry] = FIFOCache(capacity)

    def remember(self, failure: ChowderError, sandbox_id: SandboxId | None) -> str:
        """The marker of a failure, which is kept until newer ones displace it.

        The marker contains the message, too, because transcripts outlive this memory. Without a
        sandbox the failure is found by its marker only.
        """
        marker = PREFIX + secrets.token_hex(16)
        self._entries[marker] = _Entry(failure, sandbox_id, self._clock_s())
        return f"{marker}-{_encode(str(failure))}"

    def forget(self, marker: str) -> None:
        """Drops a failure that has turned out to be none."""
        self._entries.pop(marker[: len(PREFIX) + 32], None)

    def find(self, text: str) -> ChowderError | None:
        """The failure of the last known marker in a text."""
        for marker, _ in reversed(_MARKER.findall(text)):
            if entry := self._entries.get(marker):
                return entry.failure
        return None

    def latest(self, sandbox_id: SandboxId, since_s: float) -> ChowderError | None:
        """The sandbox's newest failure that is not older than `since_s` on the same clock.

        For errors that OpenClaw replaces by its own: it reports "408 upstream provider timeout" if
        a stream breaks off, and "500 internal error" if it cannot shorten a prompt.
        """
        for entry in reversed(list(self._entries.values())):
            if entry.at_s < since_s:
                return None
            if entry.sandbox_id == sandbox_id:
                return entry.failure
        return None


def read_marked_message(text: str) -> str | None:
    """The message in the last marker of a text; None if no marker has one."""
    encoded = [letters for _, letters in _MARKER.findall(text) if letters]
    if not encoded:
        return None
    # The text may be cut off within the marker.
    letters = encoded[-1][: len(encoded[-1]) // 2 * 2]
    return bytes.fromhex(letters.translate(_TO_HEX)).decode("utf-8", "ignore")


def _encode(message: str) -> str:
    """The message in letters that OpenClaw cannot interpret.

    It searches errors for words and numbers, and blocks a provider for some of them.
    """
    content = message.encode("utf-8", "replace")[:_MESSAGE_MAX_BYTES]
    return content.hex().translate(_FROM_HEX)
