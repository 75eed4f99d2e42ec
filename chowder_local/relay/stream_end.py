"""Whether all of a provider's streamed answer has come (pure).

A client may hang up at the event that says why the answer ends, and read no more of the stream.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider
from chowder_local.core.errors.upstream import StreamBroken
from chowder_local.upstream.sse import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.upstream.sse import Event


class StreamEnd:
    """Follows one stream; to be used like a StreamCheck, except that it finds no problem."""

    problem: None = None

    def __init__(self, wire: ModelProvider) -> None:
        self._reader: EventReader | None = EventReader()
        self._marks, self._ends = _ENDS[wire]
        self.is_whole = False

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer."""
        if self._reader is None or self.is_whole:
            return
        try:
            events = self._reader.feed(chunk)
        except StreamBroken:
            # No event that ends an answer is so long.
            self._reader = None
        else:
            self.is_whole = any(self._is_end(event) for event in events)

    def end(self) -> None:
        """The stream has ended."""

    def _is_end(self, event: Event) -> bool:
        # Few events have such a word, so most need not be parsed.
        if not any(mark in event.raw for mark in self._marks):
            return False
        try:
            return self._ends(json.loads(event.data or ""))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False


def _anthropic(event: Mapping[str, Any]) -> bool:
    return event["type"] == "message_stop" or bool(event["delta"]["stop_reason"])


def _openai(event: Mapping[str, Any]) -> bool:
    # The Responses API, then Chat Completions.
    if "type" in event:
        return event["type"] in {"response.completed", "response.incomplete"}
    return any(choice.get("finish_reason") for choice in event["choices"])


def _gemini(event: Mapping[str, Any]) -> bool:
    return any(candidate.get("finishReason") for candidate in event["candidates"])


_ENDS: Mapping[ModelProvider, tuple[tuple[bytes, ...], Callable[[Mapping[str, Any]], bool]]] = {
    ModelProvider.ANTHROPIC: ((b"message_stop", b"stop_reason"), _anthropic),
    ModelProvider.OPENAI: (
        (b"response.completed", b"response.incomplete", b"finish_reason"),
        _openai,
    ),
    ModelProvider.GEMINI: ((b"finishReason",), _gemini),
}
