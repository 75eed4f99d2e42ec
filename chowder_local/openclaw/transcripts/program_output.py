"""What the program that reads conversations answers; an agent may have had a hand in it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True)


class Part(_Shape):
    """A part of a message's content."""

    type: str
    text: str | None = None
    is_cut: bool = False
    length: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: dict[str, Any] | None = None


class Tokens(_Shape):
    """What a model call took."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class Message(_Shape):
    """A message as OpenClaw keeps it."""

    position: int
    id: str | None = None
    role: str
    at: float | None = None
    parts: list[Part] = []
    call_id: str | None = None
    name: str | None = None
    is_error: bool | None = None
    is_pending: bool = False
    model: str | None = None
    usage: Tokens | None = None
    run_id: str | None = None
    error: str | None = None
    is_beside: bool = False


class Page(_Shape):
    """Some messages in a row."""

    is_known: bool
    messages: list[Message]
    has_more: bool


class Kept(_Shape):
    """A conversation."""

    key: str
    created_at: float | None = None
    updated_at: float | None = None
    messages: int | None = None
    channel: str | None = None


class Sessions(_Shape):
    """All conversations."""

    sessions: list[Kept]


class Both(Page, Sessions):
    """Conversations, and one of them."""
