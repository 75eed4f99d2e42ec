"""A request to a model, independent of the provider's format."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chowder_local.relay.wire.errors import Overflow

if TYPE_CHECKING:
    from collections.abc import Mapping

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


Turn = UserMessage | AssistantText | ToolCall | ToolResult


@dataclass(frozen=True)
class Tool:
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
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
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
