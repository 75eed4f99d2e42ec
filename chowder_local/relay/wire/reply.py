"""A model's reply and the steps of its stream, independent of the provider's format."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.relay.wire.conversation import CHARACTERS_PER_TOKEN, count_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from chowder_local.relay.wire.conversation import Conversation, ToolCall

USUAL_LIMIT_TOKENS = 4096
"""Limits from here on are ignored: OpenClaw may have set them by itself."""
_STEPS_IN_A_ROW = 8
_PIECE = re.compile(r"\s*\S+(?:\s+\S+){0,2}\s*|\s+")


class StreamStep(ABC):
    """A step of a stream that is no text, such as a pause."""

    @abstractmethod
    async def play(self) -> bytes:
        """The bytes to send, if any. May wait; raises StreamBroken to break the stream."""


async def play(steps: Iterable[bytes | StreamStep]) -> AsyncGenerator[bytes, None]:
    """The answer's bytes at its pace. Raises StreamBroken if a step breaks the stream."""
    for number, step in enumerate(steps):
        if data := step if isinstance(step, bytes) else await step.play():
            yield data
        if number % _STEPS_IN_A_ROW == 0:
            # Sending waits only for slow clients, and others would wait for a long answer.
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Reply:
    """The model's reply: text, tool calls, or text and then tool calls."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    steps: tuple[str | StreamStep, ...] = ()
    """The text's pieces and what happens between them; empty for pieces of a few words."""
    stated_input_tokens: int | None = None
    """The input tokens that the answer reports; None for an estimate."""
    stated_output_tokens: int | None = None
    is_cut: bool = False
    """Whether the text ends at the limit of tokens."""

    def truncate(self, limit_tokens: int | None) -> Reply:
        """The reply cut off at the limit. If the text is cut, the calls are dropped."""
        if limit_tokens is None or limit_tokens >= USUAL_LIMIT_TOKENS:
            return self
        length = limit_tokens * CHARACTERS_PER_TOKEN
        if len(self.text) <= length:
            return self
        steps = tuple(_first_steps(self.steps, length))
        return replace(self, text=self.text[:length], calls=(), steps=steps, is_cut=True)

    @property
    def blocks(self) -> tuple[str | ToolCall, ...]:
        """The text and the calls in order; at least one block."""
        return ((self.text,) if self.text or not self.calls else ()) + self.calls

    @property
    def output_tokens(self) -> int:
        if self.stated_output_tokens is not None:
            return self.stated_output_tokens
        calls = "".join(call.name + call.arguments_json for call in self.calls)
        return count_tokens(self.text + calls)

    def input_tokens(self, conversation: Conversation) -> int:
        stated = self.stated_input_tokens
        return conversation.input_tokens if stated is None else stated

    def stream(self) -> Iterator[str | StreamStep]:
        """The text's pieces and the steps between them."""
        yield from self.steps or split_text(self.text)

    def interruptions(self) -> Iterator[StreamStep]:
        """The steps without the text, which come before an answer that is not streamed."""
        yield from (step for step in self.steps if isinstance(step, StreamStep))


def split_text(text: str) -> Iterator[str]:
    """The text in pieces of a few words; at least one piece."""
    yield from _PIECE.findall(text) or [""]


def _first_steps(steps: tuple[str | StreamStep, ...], length: int) -> Iterator[str | StreamStep]:
    for step in steps:
        if isinstance(step, StreamStep):
            yield step
        else:
            yield step[:length]
            length -= len(step)
            if length <= 0:
                return
