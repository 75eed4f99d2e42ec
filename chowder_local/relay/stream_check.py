"""Whether a streamed answer of a named provider is one that OpenClaw can use (pure).

OpenClaw has no words for most answers that are not: its turn ends as an "internal error".
"""

from __future__ import annotations

import json
from typing import Any

from chowder_local.relay import providers
from chowder_local.upstream.sse import Event, EventReader

_DONE = "[DONE]"
_SHOWN_CHARACTERS = 100


class StreamCheck:
    """Follows one stream of chat completion chunks."""

    def __init__(self) -> None:
        self._reader = EventReader()
        self._finish_reason: str | None = None
        self._has_text = False
        self._has_calls = False
        self._is_done = False
        self.problem: str | None = None
        """What is wrong with the answer, in words for a person; None as long as nothing is."""

    @property
    def is_whole(self) -> bool:
        """Whether all of a good answer has come, whatever becomes of its connection.

        Why it ends is said before its mark of the end, and some clients read no further.
        """
        has_ended = self._is_done or self._finish_reason is not None
        return has_ended and self.problem is None and self._lack() is None

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer. Raises StreamBroken at an event that is too long."""
        for event in self._reader.feed(chunk):
            if self.problem is None and not self._is_done:
                self.problem = self._problem(event)

    def end(self) -> None:
        """The stream has ended."""
        if self.problem is None and not self._is_done:
            is_finished = self._finish_reason is not None
            self.problem = self._lack() if is_finished else "it broke off before its end"

    def _problem(self, event: Event) -> str | None:
        data = event.data
        if data is None:
            # llama.cpp writes its errors into a field of that name.
            name, _, data = event.raw.decode("utf-8", "replace").partition(":")
            if name != "error":
                return None
            return providers.error_words(data.encode())
        if data == _DONE:
            self._is_done = True
            return self._lack()
        try:
            chunk = json.loads(data)
            if "error" in chunk or chunk.get("object") == "error" or event.name == "error":
                return providers.error_words(data.encode())
            for choice in chunk.get("choices") or []:
                self._see(choice)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return f"it sent something else than a chunk of an answer: {data[:_SHOWN_CHARACTERS]}"
        return None

    def _see(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        self._has_text |= bool(delta.get("content") or delta.get("refusal"))
        self._has_calls |= bool(delta.get("tool_calls") or delta.get("function_call"))
        self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _lack(self) -> str | None:
        """Why a whole answer is of no use, if it is not."""
        is_cut = self._finish_reason == "length"
        if is_cut and self._has_calls:
            return "it met its limit of tokens within a tool call"
        if self._has_text or self._has_calls:
            return None
        if is_cut:
            return "it met its limit of tokens before it said anything"
        return "it ended without saying anything"
