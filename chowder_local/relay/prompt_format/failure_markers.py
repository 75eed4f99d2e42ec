"""Remembers failures of model calls: they cross OpenClaw as a marker and are found again."""

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

_PREFIX = "relay-failure-"
_MARKER = re.compile(f"({_PREFIX}[0-9a-f]{{32}})(?:-([a-p]*))?")
_FROM_HEX = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_TO_HEX = str.maketrans("abcdefghijklmnop", "0123456789abcdef")
_WORDS_MAX_BYTES = 600


class _Entry(NamedTuple):
    failure: ChowderError
    sandbox_id: SandboxId | None
    at_s: float


class FailureMarkers:
    """The latest failures by their markers, which cannot be guessed."""

    def __init__(self, capacity: int = 1024, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._entries: FIFOCache[str, _Entry] = FIFOCache(capacity)

    def remember(self, failure: ChowderError, sandbox_id: SandboxId | None) -> str:
        """A marker under which the failure is found for as long as newer ones leave room.

        Its words are in the marker, too, for those who find it in a conversation later.

        Without a sandbox, if it is not known whose call failed, it is found by nothing else.
        """
        marker = _PREFIX + secrets.token_hex(16)
        self._entries[marker] = _Entry(failure, sandbox_id, self._clock_s())
        return f"{marker}-{_hidden(str(failure))}"

    def forget(self, marker: str) -> None:
        """Drops what has turned out not to be a failure."""
        self._entries.pop(marker[: len(_PREFIX) + 32], None)

    def find(self, text: str) -> ChowderError | None:
        """The failure whose marker is anywhere in a text; the last one, if there are several."""
        for marker, _ in reversed(_MARKER.findall(text)):
            if entry := self._entries.get(marker):
                return entry.failure
        return None

    def latest(self, sandbox_id: SandboxId, since_s: float) -> ChowderError | None:
        """A sandbox's newest failure that is not older than `since_s` of the same clock.

        For errors on which OpenClaw puts words of its own: a stream that broke off is its "408
        upstream provider timeout", a prompt that it cannot shorten its "500 internal error".
        """
        for entry in reversed(list(self._entries.values())):
            if entry.at_s < since_s:
                return None
            if entry.sandbox_id == sandbox_id:
                return entry.failure
        return None


def read_marked_message(text: str) -> str | None:
    """What a failure said whose marker is in a text; None if there is no marker with words."""
    hidden = [letters for _, letters in _MARKER.findall(text) if letters]
    if not hidden:
        return None
    # The text may have been cut off anywhere.
    letters = hidden[-1][: len(hidden[-1]) // 2 * 2]
    return bytes.fromhex(letters.translate(_TO_HEX)).decode("utf-8", "ignore")


def _hidden(words: str) -> str:
    """Words so that OpenClaw does not understand them.

    It looks for words and numbers in errors, and blocks a provider for some of them.
    """
    content = words.encode("utf-8", "replace")[:_WORDS_MAX_BYTES]
    return content.hex().translate(_FROM_HEX)
