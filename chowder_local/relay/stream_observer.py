"""Observes a streamed answer: whether it is complete, and whether it is usable (pure).

A client may disconnect at the event with the finish reason, before the stream ends.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.relay.wire.errors import error_message
from chowder_local.relay.wire.wire_format import MALFORMED
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from chowder_local.relay.wire.wire_format import WireFormat
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
