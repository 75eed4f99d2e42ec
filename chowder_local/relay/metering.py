"""Observes model calls as their answers pass: their tokens, and whether they are whole."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.relay.wire.errors import error_message
from chowder_local.relay.wire.wire_format import MALFORMED
from chowder_local.store.usage import UNSPECIFIED, Counts, UsageKey
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.relay.calls import Credential, RelayRequest
    from chowder_local.relay.wire.wire_format import Usage, WireFormat
    from chowder_local.upstream.sse import Event

_DONE = "[DONE]"
_QUOTED_CHARACTERS = 100


class StreamObserver:
    """Observes one stream; `problem` says what is wrong with the answer, if anything."""

    problem: str | None = None
    is_whole = False
    """Whether a usable answer is complete, even if the connection breaks now."""

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes. Raises StreamBroken if an event is too long."""

    def end(self) -> None:
        """Notes that the stream has ended."""


class EndObserver(StreamObserver):
    """Detects the end of an answer in any provider's format; never sets `problem`."""

    def __init__(self, wire: WireFormat) -> None:
        self._reader: EventReader | None = EventReader()
        self._wire = wire

    def feed(self, chunk: bytes) -> None:
        if self._reader is None or self.is_whole:
            return
        try:
            events = self._reader.feed(chunk)
        except StreamBroken:
            # An event that ends an answer is never this long.
            self._reader = None
        else:
            self.is_whole = any(self._is_end(event) for event in events)

    def _is_end(self, event: Event) -> bool:
        if not any(mark in event.raw for mark in self._wire.end_marks):
            return False
        try:
            return self._wire.is_end(json.loads(event.data or ""))
        except MALFORMED:
            return False


class CompletionObserver(StreamObserver):
    """Judges the chat completion chunks of a provider that the operator named.

    For most answers that it cannot use, OpenClaw reports just an "internal error".
    """

    def __init__(self) -> None:
        self._reader = EventReader()
        self._finish_reason: str | None = None
        self._has_text = False
        self._has_calls = False
        self._is_done = False

    def feed(self, chunk: bytes) -> None:
        for event in self._reader.feed(chunk):
            if self.problem is None and not self._is_done:
                self.problem = self._find_problem(event)
        # Some clients stop reading at the finish reason, before `[DONE]`.
        is_over = self._is_done or self._finish_reason is not None
        self.is_whole = is_over and self.problem is None and self._find_defect() is None

    def end(self) -> None:
        if self.problem is None and not self._is_done:
            is_cut_off = self._finish_reason is None
            broken = "the answer broke off before its end"
            self.problem = broken if is_cut_off else self._find_defect()

    def _find_problem(self, event: Event) -> str | None:
        data = event.data
        if data is None:
            # llama.cpp sends errors in a field `error:` instead of `data:`.
            name, _, error = event.raw.decode("utf-8", "replace").partition(":")
            return error_message(error.encode()) if name == "error" else None
        if data == _DONE:
            self._is_done = True
            return self._find_defect()
        try:
            chunk = json.loads(data)
            if "error" in chunk or chunk.get("object") == "error" or event.name == "error":
                return error_message(data.encode())
            for choice in chunk.get("choices") or []:
                self._note(choice)
        except MALFORMED:
            return f"an event is not a completion chunk: {data[:_QUOTED_CHARACTERS]}"
        return None

    def _note(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        self._has_text |= bool(delta.get("content") or delta.get("refusal"))
        self._has_calls |= bool(delta.get("tool_calls") or delta.get("function_call"))
        self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _find_defect(self) -> str | None:
        """Why a complete answer is unusable; None if it is usable."""
        is_cut = self._finish_reason == "length"
        if is_cut and self._has_calls:
            return "the answer reached the token limit within a tool call"
        if self._has_text or self._has_calls:
            return None
        if is_cut:
            return "the answer reached the token limit before it had any text"
        return "the answer has no text and no tool call"


LONGEST_BYTES = 8 * 1024
"""No provider's usage object is longer."""

_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Reservation(Protocol):
    """What is kept for a call in progress. Only its first settlement or release counts."""

    def settle(self, usage: Usage | None) -> None:
        """Takes what the call has cost: all that is reserved if its usage is not known."""

    def release(self) -> None:
        """Takes nothing: the provider has not done the call."""


class Reserve(Protocol):
    """Reserves what a call may take, before it is sent."""

    async def __call__(
        self,
        request: RelayRequest,
        credential: Credential,
        turn_id: str | None,
        *,
        is_local: bool,
        is_billed: bool,
    ) -> Reservation:
        """Raises an error that refuses a model call."""


class Ledger(Protocol):
    """Stores the counts."""

    def note(self, key: UsageKey, counts: Counts) -> None:
        """Adds a call to the counts, without blocking."""


@dataclass(eq=False, repr=False)
class Metering:
    """Counts the calls of instances; those of warm sandboxes are not counted."""

    ledger: Ledger
    clock: Callable[[], datetime]

    def note(
        self, request: RelayRequest, credential: Credential, usage: Usage | None, *, is_billed: bool
    ) -> None:
        """Counts a call that has ended; `usage` is None if no answer has reported any."""
        if credential.instance_id is None:
            return
        key = UsageKey(
            credential.instance_id,
            self.clock().date(),
            request.session.key if request.session else UNSPECIFIED,
            request.provider,
            request.model_id or UNSPECIFIED,
            is_billed,
        )
        tokens = {"unmetered_calls": 1} if usage is None else asdict(usage)
        self.ledger.note(key, Counts(calls=1, **tokens))


@dataclass(eq=False, repr=False)
class Meter:
    """Reads the usage from one answer, streamed or whole, chunk by chunk. The latest value counts.

    Only the usage object is parsed. Text cannot look like one: within a JSON string the quotes of
    the member's name are escaped.
    """

    wire: WireFormat

    def __post_init__(self) -> None:
        self._mark = self.wire.usage_member
        self._counts: dict[str, Any] = {}
        self._held = b""

    def feed(self, chunk: bytes) -> None:
        if self._held:
            self._scan(self._held + chunk)
        elif self._mark in chunk:
            self._scan(chunk)
        elif not chunk.endswith((b"\n", b"}")):
            # Nearly every event ends with one of these. Any other chunk may end within the mark.
            self._held = _beginning(chunk, self._mark)

    @property
    def usage(self) -> Usage | None:
        """The usage so far; None if the answer has not reported any."""
        if not self._counts:
            return None
        try:
            return self.wire.read_usage(self._counts)
        except MALFORMED:
            return None

    def _scan(self, data: bytes) -> None:
        at = 0
        while (start := data.find(self._mark, at)) >= 0:
            at = start + len(self._mark)
            value, end, is_cut = _object_at(data, at)
            if value is not None:
                # Anthropic reports the input at the beginning and the output at the end.
                self._counts |= {name: each for name, each in value.items() if each is not None}
            elif is_cut and len(data) - start <= LONGEST_BYTES and self._mark not in data[at:]:
                self._held = data[start:]
                return
            at = end
        self._held = _beginning(data[at:], self._mark)


def _object_at(data: bytes, at: int) -> tuple[dict[str, Any] | None, int, bool]:
    """The object after a member's name, if any; where it ends; whether more bytes may complete it.

    The end of one that is no JSON is where that shows.
    """
    colon = _COLON.match(data, at, at + LONGEST_BYTES)
    if colon is None:
        return None, at, not data[at : at + LONGEST_BYTES].strip()
    start = colon.end()
    if data[start : start + 1] != b"{":
        return None, start, start == len(data)
    try:
        value, length = _DECODER.raw_decode(data[start : start + LONGEST_BYTES].decode("latin-1"))
    except json.JSONDecodeError as error:
        return None, start + error.pos, True
    except (ValueError, RecursionError):
        return None, start + LONGEST_BYTES, False
    return value, start + length, False


def _beginning(data: bytes, mark: bytes) -> bytes:
    """The end of the data if it may be the beginning of a mark; else empty."""
    for length in range(min(len(mark) - 1, len(data)), 0, -1):
        if mark.startswith(data[-length:]):
            return data[-length:]
    return b""
