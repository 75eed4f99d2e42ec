"""A model call and its answer as a person reads and keeps them, and what two calls have in common.

Of a request there is what matters: the model, and what was said, called and returned, freed of what
OpenClaw adds. Its instructions and tools are the image's; they would be nine tenths of each file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from chowder_local.relay.prompt_format.user_messages import unfold
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, UserMessage
from chowder_local.relay.wire.request_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.relay.calls import ModelCall
    from chowder_local.relay.wire.conversation import Conversation, Turn

FORMAT = 1

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
    """A misspelt member would otherwise be an answer that never comes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(_Strict):
    """What matters of a model call."""

    provider: str
    model: str
    is_streamed: Annotated[bool, Field(strict=True)]
    turns: list[dict[str, Any]]
    """Each has one of `said`, `answered`, `called` and `returned`."""

    @classmethod
    def of(cls, provider: str, conversation: Conversation) -> Asked:
        return cls(
            provider=provider,
            model=conversation.model,
            is_streamed=conversation.is_streamed,
            turns=[_turn(turn) for turn in unfold(conversation.turns)],
        )

    @classmethod
    def of_call(cls, call: ModelCall) -> Asked | None:
        """What a call asks; None if it asks no model, as one for embeddings."""
        parsed = call.parse()
        if not isinstance(parsed, ParsedRequest):
            return None
        return cls.of(call.provider, parsed.conversation)

    def lines(self) -> list[str]:
        """The same a line a thing, without what is another each time: times, and ids."""
        head = [f"provider: {self.provider}", f"model: {self.model}"]
        return [*head, f"is_streamed: {self.is_streamed}", *map(_line, self.turns)]


class AnsweredCall(_Strict):
    """What came back: `events` of a stream, or else the `text` of the body."""

    status: int = Field(ge=100, le=599)
    content_type: str = "application/json"
    retry_after: str | None = None
    events: list[str] | None = None
    text: str | None = None

    @classmethod
    def of(
        cls, status: int, content_type: str, body: bytes, retry_after: str | None = None
    ) -> AnsweredCall:
        text = body.decode("utf-8", "replace")
        if not content_type.startswith("text/event-stream"):
            return cls(status=status, content_type=content_type, retry_after=retry_after, text=text)
        events = [event for event in re.split(r"\r?\n\r?\n", text) if event]
        return cls(status=status, content_type=content_type, retry_after=retry_after, events=events)

    def chunks(self) -> Iterator[bytes]:
        """The body, in the pieces in which it is sent again."""
        for event in self.events or ():
            yield f"{event}\n\n".encode()
        if self.text is not None:
            yield self.text.encode()


class Entry(_Strict):
    """One model call with its answer: a file of a recording."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    asked: Asked
    answered: AnsweredCall


def without_what_varies(text: str) -> str:
    """Times and ids replaced by what they are."""
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
    return without_what_varies(f"{kind}: {value}{more}")
