"""What a model replies, in no provider's format, and what may happen within its stream."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.relay.wire.conversation import CHARACTERS_PER_TOKEN, count_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from chowder_local.relay.wire.conversation import Conversation, ToolCall

USUAL_LIMIT_TOKENS = 4096
"""From here on a limit may be one that OpenClaw sets by itself, which is not meant."""
_PIECE = re.compile(r"\s*\S+(?:\s+\S+){0,2}\s*|\s+")


class StreamStep(ABC):
    """Something in a stream besides its text."""

    @abstractmethod
    async def play(self) -> bytes:
        """What is sent, if anything; may wait, or raise StreamBroken."""


async def play(steps: Iterable[bytes | StreamStep]) -> AsyncGenerator[bytes, None]:
    """The answer's bytes at its pace; raises StreamBroken where it is cut."""
    for step in steps:
        if data := step if isinstance(step, bytes) else await step.play():
            yield data


@dataclass(frozen=True)
class Reply:
    """What the model answers: text, tool calls, or text before them."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    steps: tuple[str | StreamStep, ...] = ()
    """The text in the pieces and at the pace of its stream; empty for a few words at a time."""
    stated_input_tokens: int | None = None
    """What the answer says it took; None for about what a real model would count."""
    stated_output_tokens: int | None = None
    is_cut: bool = False
    """Whether its text ends where no more tokens were allowed."""

    def truncate(self, limit_tokens: int | None) -> Reply:
        """The reply with its text cut off at a limit, and then without calls; those stay whole."""
        if limit_tokens is None or limit_tokens >= USUAL_LIMIT_TOKENS:
            return self
        length = limit_tokens * CHARACTERS_PER_TOKEN
        if len(self.text) <= length:
            return self
        steps = tuple(_first_steps(self.steps, length))
        return replace(self, text=self.text[:length], calls=(), steps=steps, is_cut=True)

    @property
    def blocks(self) -> tuple[str | ToolCall, ...]:
        """What the answer consists of, in its order; never nothing at all."""
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
        """The text's pieces, and what happens between them."""
        yield from self.steps or split_text(self.text)

    def interruptions(self) -> Iterator[StreamStep]:
        """What happens before an answer that is sent whole."""
        yield from (step for step in self.steps if isinstance(step, StreamStep))


def split_text(text: str) -> Iterator[str]:
    """The text in a few words at a time, so that a stream is one; never nothing at all."""
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
