"""Counts the tokens of model calls, while their answers pass by."""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from chowder_local.relay.wire.wire_format import MALFORMED
from chowder_local.store.usage import ELSEWHERE, Counts, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from chowder_local.relay.calls import Credential, ModelCall
    from chowder_local.relay.wire.wire_format import Usage, WireFormat

LONGEST_BYTES = 8 * 1024
"""More than any provider's usage is long; what goes on beyond that is none."""

_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Ledger(Protocol):
    """Keeps what was counted."""

    def note(self, kind: Kind, counts: Counts) -> None:
        """Counts a call, without waiting for anything."""


class Metering:
    """Counts the calls of instances; those of warm sandboxes are not counted."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def meter(
        self,
        call: ModelCall,
        credential: Credential,
        chunks: AsyncGenerator[bytes, None],
        *,
        is_billed: bool,
    ) -> AsyncGenerator[bytes, None]:
        """The same pieces; whether a provider is paid for them is `is_billed`."""
        meter = Meter(call.wire)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    meter.feed(chunk)
                    yield chunk
        finally:
            # At the end, when no client waits for it any more.
            if credential.instance_id is not None:
                kind = Kind(
                    credential.instance_id,
                    self._clock().date(),
                    call.session.key if call.session else ELSEWHERE,
                    call.provider,
                    call.model or ELSEWHERE,
                    is_billed,
                )
                usage = meter.usage
                tokens = {"unmetered_calls": 1} if usage is None else asdict(usage)
                self._ledger.note(kind, Counts(calls=1, **tokens))


class Meter:
    """Follows one answer, streamed or whole, piece by piece; what was told last counts.

    Nothing is parsed but the one object that tells the usage. Text cannot look like it: within a
    JSON string the quotes of its name would be escaped.
    """

    def __init__(self, wire: WireFormat) -> None:
        self._wire = wire
        self._mark = wire.usage_member
        self._counts: dict[str, Any] = {}
        self._held = b""

    def feed(self, chunk: bytes) -> None:
        if self._held:
            self._look(self._held + chunk)
        elif self._mark in chunk:
            self._look(chunk)
        elif not chunk.endswith((b"\n", b"}")):
            # Nearly every event ends so; what does not may end within a mark.
            self._held = _beginning(chunk, self._mark)

    @property
    def usage(self) -> Usage | None:
        """What was told so far; None if nothing was."""
        if not self._counts:
            return None
        try:
            return self._wire.read_usage(self._counts)
        except MALFORMED:
            return None

    def _look(self, seen: bytes) -> None:
        at = 0
        while (found := seen.find(self._mark, at)) >= 0:
            at = found + len(self._mark)
            value, is_cut = _object_at(seen, at)
            if value is not None:
                # Anthropic tells the input when it begins and the output when it ends.
                self._counts |= {name: each for name, each in value.items() if each is not None}
            elif is_cut and len(seen) - found <= LONGEST_BYTES and self._mark not in seen[at:]:
                self._held = seen[found:]
                return
        self._held = _beginning(seen[at:], self._mark)


def _object_at(seen: bytes, at: int) -> tuple[dict[str, Any] | None, bool]:
    """The object behind a name, if there is one, and whether there may be with more bytes."""
    colon = _COLON.match(seen, at)
    if colon is None:
        return None, not seen[at:].strip()
    begins = colon.end()
    if seen[begins : begins + 1] != b"{":
        return None, begins == len(seen)
    try:
        value, _ = _DECODER.raw_decode(seen[begins : begins + LONGEST_BYTES].decode("latin-1"))
    except ValueError:
        return None, True
    except RecursionError:
        return None, False
    return value, False


def _beginning(seen: bytes, mark: bytes) -> bytes:
    """The end of what was seen, if a mark may begin there."""
    for length in range(min(len(mark) - 1, len(seen)), 0, -1):
        if mark.startswith(seen[-length:]):
            return seen[-length:]
    return b""
