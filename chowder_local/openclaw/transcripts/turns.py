"""What transcripts consist of: things that were said, called or answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class TurnUsage:
    """Tokens of the model call that a turn came from."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Attempt:
    """A message of which nothing came, and whose words were sent again."""

    at: datetime | None
    status: str
    error: str | None = None


@dataclass(frozen=True)
class Turn:
    """One thing that was said, called or answered; `position` counts OpenClaw's messages.

    `role` is user, assistant, tool_call or tool_result.
    """

    position: int
    role: str
    at: datetime | None = None
    text: str | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: Mapping[str, Any] | None = None
    is_error: bool | None = None
    images: int = 0
    is_cut: bool = False
    characters: int | None = None
    """How long the whole text is of one that is cut."""
    model: str | None = None
    usage: TurnUsage | None = None
    response_id: str | None = None
    error: str | None = None
    status: str | None = None
    """What became of a user's message, as far as it is known: see `turn_statuses`."""
    attempts: tuple[Attempt, ...] = ()
