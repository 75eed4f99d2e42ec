"""What `transcripts.mjs` reads of OpenClaw's database, and its output.

The output is untrusted, because the agent can write the database.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field

TABLES = {
    "session_nodes": ("session_key", "updated_at", "current_session_id"),
    "session_windows": ("session_id", "session_key", "channel", "model", "created_at"),
    "session_transcript_index_state": ("session_id", "active_message_count", "needs_rebuild"),
    "session_transcript_active_events": ("session_id", "event_seq", "message_position"),
    "transcript_events": ("session_id", "seq", "event_json"),
}
"""The tables that it reads, with their columns."""
OPTIONAL_COLUMN = "event_zstd"
"""A column of `transcript_events` that releases before 2026.9.6 do not have."""
SESSIONS_MAX = 10_000
MESSAGES_MAX = 2_100
"""The most of the program: a page of 1000, and those off the active branch."""
_LAST_MS = 253_402_300_799_000


def _time(at_ms: Any) -> Any:
    """A time from milliseconds since 1970; None if it is out of range."""
    if not isinstance(at_ms, int | float):
        return at_ms
    return datetime.fromtimestamp(at_ms / 1000, UTC) if 0 <= at_ms <= _LAST_MS else None


def _count(value: Any) -> Any:
    return 0 if value is None else value


Time = Annotated[datetime | None, BeforeValidator(_time)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True)


class Part(_Shape):
    type: str
    text: str | None = None
    is_cut: bool = False
    length: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: dict[str, Any] | None = None


class Tokens(_Shape):
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class StoredMessage(_Shape):
    """A message in OpenClaw's database; one off the active branch was taken back or sent again."""

    position: int
    id: str | None = None
    role: str
    at: Time = None
    parts: Annotated[list[Part], FailFast()] = []
    call_id: str | None = None
    name: str | None = None
    is_error: bool | None = None
    is_pending: bool = False
    model: str | None = None
    usage: Tokens | None = None
    run_id: str | None = None
    error: str | None = None
    is_off_branch: bool = False


class StoredPage(_Shape):
    is_known: bool
    messages: Annotated[list[StoredMessage], FailFast(), Field(max_length=MESSAGES_MAX)]
    has_more: bool


class KeptSession(_Shape):
    """A conversation in OpenClaw's database."""

    key: str
    created_at: Time = None
    last_used_at: Time = Field(None, alias="updated_at")
    messages: Annotated[int, BeforeValidator(_count)] = 0
    channel: str | None = None


class Sessions(_Shape):
    sessions: Annotated[list[KeptSession], FailFast(), Field(max_length=SESSIONS_MAX)]


class SessionsAndPage(StoredPage, Sessions):
    """All conversations, and a page of one of them."""
