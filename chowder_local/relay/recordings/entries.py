"""The files of a recording: a model call and its answer, readable and comparable.

A request is reduced to the model and the turns, without what OpenClaw adds. OpenClaw's instructions
and tools come with the image and would be nine tenths of each file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from chowder_local.relay.prompt_format import unfold
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.relay.calls import ModelCall
    from chowder_local.relay.wire.conversation import Conversation, Turn

FORMAT = 1
_CHUNK_BYTES = 8 * 1024
_MASKED_CHARACTERS = 64_000
"""Times and ids in the rest of a turn are compared as they are."""

_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I), "<id>"),
    (re.compile(r"\b(?:call|toolu|fc|msg|resp|chatcmpl|run)[-_][A-Za-z0-9_-]{6,}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{16,}\b", re.I), "<id>"),
    (
        re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?"),
        "<time>",
    ),
    (re.compile(rf"\b{_CLOCK}\b"), "<time>"),
    (re.compile(r"\b1[6-9]\d{8}(?:\d{3})?\b"), "<time>"),
)


class _Strict(BaseModel):
    """Refuses unknown members: a misspelt one would be ignored silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedRequest(_Strict):
    """A model call, reduced to what distinguishes it."""

    provider: str
    model: str
    is_streamed: Annotated[bool, Field(strict=True)]
    turns: list[dict[str, Any]]
    """Each turn has one of `said`, `answered`, `called` and `returned`."""

    @classmethod
    def from_conversation(cls, provider: str, conversation: Conversation) -> Self:
        return cls(
            provider=provider,
            model=conversation.model,
            is_streamed=conversation.is_streamed,
            turns=[_turn(turn) for turn in unfold(conversation.turns)],
        )

    @classmethod
    def from_call(cls, call: ModelCall) -> Self | None:
        """The request of a call; None if it has no conversation, as for embeddings."""
        parsed = call.parse()
        if not isinstance(parsed, ParsedRequest):
            return None
        return cls.from_conversation(call.provider, parsed.conversation)

    def lines(self) -> list[str]:
        """The request as lines for comparison, with times and ids masked."""
        head = [f"provider: {self.provider}", f"model: {self.model}"]
        return [*head, f"is_streamed: {self.is_streamed}", *map(_line, self.turns)]


class RecordedAnswer(_Strict):
    """An answer: the `events` of a stream, or the `text` of any other body."""

    status: int = Field(ge=100, le=599)
    content_type: str = "application/json"
    retry_after: str | None = None
    events: list[str] | None = None
    text: str | None = None

    @classmethod
    def from_body(
        cls, status: int, content_type: str, body: bytes, retry_after: str | None = None
    ) -> Self:
        text = body.decode("utf-8", "replace")
        if not content_type.startswith("text/event-stream"):
            return cls(status=status, content_type=content_type, retry_after=retry_after, text=text)
        events = [event for event in re.split(r"\r?\n\r?\n", text) if event]
        return cls(status=status, content_type=content_type, retry_after=retry_after, events=events)

    def chunks(self) -> Iterator[bytes]:
        """The body in chunks of bounded length, at least one an event."""
        for part in [self.text or ""] if self.events is None else self.events:
            data = part.encode() if self.events is None else f"{part}\n\n".encode()
            for start in range(0, len(data), _CHUNK_BYTES):
                yield data[start : start + _CHUNK_BYTES]


class Entry(_Strict):
    """A model call with its answer: one file of a recording."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    asked: RecordedRequest
    answered: RecordedAnswer


def mask_variable_parts(text: str) -> str:
    """Replaces times by `<time>` and ids by `<id>`."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def _turn(turn: Turn) -> dict[str, Any]:
    if isinstance(turn, UserMessage):
        return {"said": "\n".join(turn.parts)}
    if isinstance(turn, AssistantText):
        return {"answered": turn.text}
    if isinstance(turn, ToolCall):
        return {"called": turn.name} | ({"with": dict(turn.arguments)} if turn.arguments else {})
    return {"returned": turn.text}


def _line(turn: dict[str, Any]) -> str:
    kind, value = next(iter(turn.items()), ("", ""))
    more = f" {turn['with']}" if "with" in turn else ""
    text = f"{kind}: {value}{more}"
    return mask_variable_parts(text[:_MASKED_CHARACTERS]) + text[_MASKED_CHARACTERS:]
