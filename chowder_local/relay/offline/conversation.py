"""What a model is asked and what it replies, in no provider's format."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from chowder_local.relay.offline.stream_steps import StreamStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHARACTERS_PER_TOKEN = 4
USUAL_LIMIT_TOKENS = 4096
"""From here on a limit may be one that OpenClaw sets by itself, which is not meant."""
_PIECE = re.compile(r"\s*\S+(?:\s+\S+){0,2}\s*|\s+")


@dataclass(frozen=True)
class Said:
    """A user message; its parts are the person's words and what OpenClaw adds to them."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """An earlier answer of the model."""

    text: str


@dataclass(frozen=True)
class Called:
    """A tool call of the model."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments_json(self) -> str:
        """The arguments as text."""
        return json.dumps(dict(self.arguments), ensure_ascii=False)


@dataclass(frozen=True)
class Returned:
    """What a tool call came to; a name is empty where the format has none."""

    call_id: str
    text: str
    name: str = ""


Turn = Said | Answered | Called | Returned


@dataclass(frozen=True)
class Tool:
    """A tool on offer, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Whether a tool must be called, and which."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None


@dataclass(frozen=True)
class Conversation:
    """One request to a model."""

    model: str
    system: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    choice: Choice = field(default_factory=Choice)
    is_streamed: bool = False
    has_usage_in_stream: bool = True
    digest: str = ""
    input_tokens: int = 0
    max_output_tokens: int | None = None


@dataclass(frozen=True)
class Usage:
    """What an answer says it took; None for about what a real model would count."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Reply:
    """What the model answers: text, tool calls, or text before them."""

    text: str = ""
    calls: tuple[Called, ...] = ()
    beats: tuple[str | StreamStep, ...] = ()
    """The text in the pieces and at the pace of its stream; empty for a few words at a time."""
    usage: Usage = field(default_factory=Usage)
    is_cut: bool = False
    """Whether its text ends where no more tokens were allowed."""

    def within(self, limit_tokens: int | None) -> Reply:
        """The reply with its text cut off at a limit, and then without calls; those stay whole."""
        if limit_tokens is None or limit_tokens >= USUAL_LIMIT_TOKENS:
            return self
        length = limit_tokens * _CHARACTERS_PER_TOKEN
        if len(self.text) <= length:
            return self
        beats = tuple(_first_beats(self.beats, length))
        return replace(self, text=self.text[:length], calls=(), beats=beats, is_cut=True)

    @property
    def blocks(self) -> tuple[str | Called, ...]:
        """What the answer consists of, in its order; never nothing at all."""
        return ((self.text,) if self.text or not self.calls else ()) + self.calls

    @property
    def output_tokens(self) -> int:
        """What is said to have been written."""
        if self.usage.output_tokens is not None:
            return self.usage.output_tokens
        return tokens(self.text + "".join(call.name + call.arguments_json for call in self.calls))

    def input_tokens(self, conversation: Conversation) -> int:
        """What is said to have been read."""
        told = self.usage.input_tokens
        return conversation.input_tokens if told is None else told

    def streamed(self) -> Iterator[str | StreamStep]:
        """The text's pieces, and what happens between them."""
        yield from self.beats or pieces(self.text)

    def interruptions(self) -> Iterator[StreamStep]:
        """What happens before an answer that is sent whole."""
        yield from (beat for beat in self.beats if isinstance(beat, StreamStep))


def _first_beats(beats: tuple[str | StreamStep, ...], length: int) -> Iterator[str | StreamStep]:
    """What happens up to so many characters of the text."""
    for beat in beats:
        if isinstance(beat, str):
            yield beat[:length]
            length -= len(beat)
            if length <= 0:
                return
        else:
            yield beat


def limit_of(*given: Any) -> int | None:
    """The first of what may be a limit of tokens."""
    return next((each for each in given if isinstance(each, int) and each > 0), None)


def tokens(text: str) -> int:
    """A plausible count that is the same every time."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def digest(body: Mapping[str, Any]) -> str:
    """What ids are made of: the same request gets the same ones."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def body_tokens(body: Mapping[str, Any]) -> int:
    """How much there is to read in a request."""
    return tokens(json.dumps(body, ensure_ascii=False))


def pieces(text: str) -> Iterator[str]:
    """The text in a few words at a time, so that a stream is one; never nothing at all."""
    yield from _PIECE.findall(text) or [""]
