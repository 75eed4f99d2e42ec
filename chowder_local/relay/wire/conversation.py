"""A request to a model and the model's reply, independent of the provider's format."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from chowder_local.relay.wire.errors import Overflow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping

CHARACTERS_PER_TOKEN = 4
MAX_PROMPT_TOKENS = 1_000_000
TOKENS_PER_MESSAGE = 50
SPEAKERS = ("User: ", "Assistant: ", "Tool:")
"""The beginnings of lines by which OpenClaw folds several messages into one."""


@dataclass(frozen=True)
class UserMessage:
    """A user message; its parts are the user's text and additions of OpenClaw."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class AssistantText:
    """Text of an earlier answer of the model."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A tool call of the model."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments_json(self) -> str:
        return json.dumps(dict(self.arguments), ensure_ascii=False)


@dataclass(frozen=True)
class ToolResult:
    """The result of a tool call; the name is empty if the format has none."""

    call_id: str
    text: str
    name: str = ""


PromptTurn = UserMessage | AssistantText | ToolCall | ToolResult


@dataclass(frozen=True)
class PromptTool:
    """A tool that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolChoice:
    """Whether a tool must be called, and which."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None


@dataclass(frozen=True)
class Conversation:
    """One request to a model."""

    model: str
    system: str
    turns: tuple[PromptTurn, ...]
    tools: tuple[PromptTool, ...] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    is_streamed: bool = False
    has_usage_in_stream: bool = True
    digest: str = ""
    """Source of the ids in the answer, so that equal requests get equal ids."""
    input_tokens: int = 0
    max_output_tokens: int | None = None


def first_limit(*candidates: Any) -> int | None:
    """The first candidate that is a positive integer."""
    return next((each for each in candidates if isinstance(each, int) and each > 0), None)


def count_tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def digest(model: str, body: bytes) -> str:
    """The digest of a request; the path may have the model."""
    whole = hashlib.sha256(f"{model}\n".encode("utf-8", "replace"))
    whole.update(body)
    return whole.hexdigest()


def find_excess(conversation: Conversation) -> Overflow | None:
    """The tokens of a prompt that is too long for the offline model; None for any other.

    Each message, or part of one, is searched on its own, so that these count as well.
    """
    texts = [conversation.system]
    for turn in conversation.turns:
        if isinstance(turn, UserMessage):
            texts += turn.parts
        else:
            texts.append(turn.name if isinstance(turn, ToolCall) else turn.text)
    lines = sum(text.count(f"\n{speaker}") for text in texts for speaker in SPEAKERS)
    tokens = sum(map(count_tokens, texts)) + TOKENS_PER_MESSAGE * (len(texts) + lines)
    return Overflow(tokens, MAX_PROMPT_TOKENS) if tokens > MAX_PROMPT_TOKENS else None


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

    def events(
        self, block: str | ToolCall, event: Callable[[str], dict[str, Any]]
    ) -> Iterator[dict[str, Any] | StreamStep]:
        """An event for each piece of the text or of a call's arguments, and the steps between."""
        pieces: Iterable[str | StreamStep] = self.steps
        if isinstance(block, ToolCall):
            pieces = split_text(block.arguments_json)
        for piece in pieces or split_text(self.text):
            yield event(piece) if isinstance(piece, str) else piece

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
