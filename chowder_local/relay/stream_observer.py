"""Follows a streamed answer: whether all of it has come, and whether it is of use (pure).

A client may hang up at the event that says why the answer ends, and read no more of the stream.
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
_SHOWN_CHARACTERS = 100


class StreamObserver:
    """Follows one stream; `problem` says what is wrong with the answer, if anything is."""

    problem: str | None = None
    is_whole = False
    """Whether all of a good answer has come, whatever becomes of its connection."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer. May raise StreamBroken at an event that is too long."""

    def end(self) -> None:
        """The stream has ended."""


class EndObserver(StreamObserver):
    """Looks for the end of an answer only, in any provider's format; finds no problem."""

    def __init__(self, wire: WireFormat) -> None:
        self._reader: EventReader | None = EventReader()
        self._wire = wire

    def feed(self, chunk: bytes) -> None:
        if self._reader is None or self.is_whole:
            return
        try:
            events = self._reader.feed(chunk)
        except StreamBroken:
            # No event that ends an answer is so long.
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
    """Judges chat completion chunks of a provider that the operator named.

    OpenClaw has no message for most answers that it cannot use: its turn ends as an "internal
    error".
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
        # Why it ends is said before its mark of the end, and some clients read no further.
        is_over = self._is_done or self._finish_reason is not None
        self.is_whole = is_over and self.problem is None and self._find_lack() is None

    def end(self) -> None:
        if self.problem is None and not self._is_done:
            is_finished = self._finish_reason is not None
            self.problem = self._find_lack() if is_finished else "it broke off before its end"

    def _find_problem(self, event: Event) -> str | None:
        data = event.data
        if data is None:
            # llama.cpp writes its errors into a field of that name.
            name, _, error = event.raw.decode("utf-8", "replace").partition(":")
            return error_message(error.encode()) if name == "error" else None
        if data == _DONE:
            self._is_done = True
            return self._find_lack()
        try:
            chunk = json.loads(data)
            if "error" in chunk or chunk.get("object") == "error" or event.name == "error":
                return error_message(data.encode())
            for choice in chunk.get("choices") or []:
                self._see(choice)
        except MALFORMED:
            return f"it sent something else than a chunk of an answer: {data[:_SHOWN_CHARACTERS]}"
        return None

    def _see(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        self._has_text |= bool(delta.get("content") or delta.get("refusal"))
        self._has_calls |= bool(delta.get("tool_calls") or delta.get("function_call"))
        self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _find_lack(self) -> str | None:
        """Why a whole answer is of no use, if it is not."""
        is_cut = self._finish_reason == "length"
        if is_cut and self._has_calls:
            return "it met its limit of tokens within a tool call"
        if self._has_text or self._has_calls:
            return None
        if is_cut:
            return "it met its limit of tokens before it said anything"
        return "it ended without saying anything"
