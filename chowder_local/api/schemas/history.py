"""Bodies: conversations, read back."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from chowder_local.openclaw.session_keys import MAIN_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.instances.conversations.transcripts import Session
    from chowder_local.openclaw.transcripts.reader import Transcript
    from chowder_local.openclaw.transcripts.turns import Attempt, Turn, TurnUsage

MESSAGES_MAX = 1000
POSITION_MAX = (1 << 53) - 1
KEY_CHARACTERS = 8192


class TranscriptQuery(BaseModel):
    """Which part of a transcript."""

    limit: int = Field(
        100,
        ge=1,
        le=MESSAGES_MAX,
        description="So many of the last messages, at most; long ones make a page shorter.",
    )
    before: int | None = Field(
        None,
        ge=0,
        le=POSITION_MAX,
        description="Only of those before this position, as the page after this one says.",
    )


class KeyedTranscriptQuery(TranscriptQuery):
    """Which part of which conversation's transcript."""

    key: str = Field(
        MAIN_KEY,
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="OpenClaw's key of a conversation that has no name here, as a messenger's.",
    )


class SessionView(BaseModel):
    """A conversation of an agent."""

    name: Annotated[
        str | None,
        Field(
            description="What messages call it; null: the main one, or one of OpenClaw's own.",
            examples=["project-alpha"],
        ),
    ]
    key: Annotated[str, Field(description="OpenClaw's own name of it.", examples=[MAIN_KEY])]
    is_main: bool
    channel: Annotated[
        str | None, Field(description="The messenger that it is held by.", examples=[None])
    ]
    created_at: datetime | None
    last_used_at: datetime | None
    messages: Annotated[
        int, Field(description="What OpenClaw keeps of it, tool results included.", examples=[4])
    ]

    @classmethod
    def of(cls, session: Session) -> Self:
        """The view."""
        return cls(is_main=session.is_main, **vars(session))


class SessionsView(BaseModel):
    """An agent's conversations, the main one first, then the last used ones."""

    sessions: list[SessionView]

    @classmethod
    def rendered(cls, sessions: Sequence[Session]) -> bytes:
        """The view as JSON; there may be thousands."""
        return cls(sessions=[SessionView.of(each) for each in sessions]).model_dump_json().encode()


class TurnUsageView(BaseModel):
    """Tokens of the model call that a turn came from; those of the cache are among the input."""

    input_tokens: Annotated[int, Field(examples=[16_480])]
    cached_tokens: Annotated[int, Field(examples=[0])]
    cache_write_tokens: Annotated[int, Field(examples=[0])]
    output_tokens: Annotated[int, Field(examples=[12])]

    @classmethod
    def of(cls, usage: TurnUsage) -> Self:
        """The view."""
        return cls(**vars(usage))


class AttemptView(BaseModel):
    """A message of which nothing came, and whose words were sent again."""

    at: datetime | None
    status: Literal["failed", "cancelled"]
    error: Annotated[
        str | None, Field(description="Why the model did not answer.", examples=[None])
    ]

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """The view."""
        return cls(**vars(attempt))


class TurnView(BaseModel):
    """One thing that was said, called or answered."""

    position: Annotated[
        int, Field(description="Of OpenClaw's message that it is of, from 0.", examples=[1])
    ]
    role: Literal["user", "assistant", "tool_call", "tool_result"]
    at: datetime | None
    text: Annotated[
        str | None,
        Field(description="What was said, or came of a call.", examples=["Hello!"]),
    ]
    name: Annotated[str | None, Field(description="The tool's.", examples=[None])]
    call_id: Annotated[
        str | None, Field(description="Joins a call and its result.", examples=[None])
    ]
    arguments: Annotated[
        dict[str, Any] | None, Field(description="Those of a call.", examples=[None])
    ]
    is_error: Annotated[
        bool | None, Field(description="Whether a tool's result is a failure.", examples=[None])
    ]
    images: Annotated[int, Field(description="How many came with it.", examples=[0])]
    is_cut: Annotated[
        bool, Field(description="Whether it was longer than 200,000 characters.", examples=[False])
    ]
    model: Annotated[str | None, Field(examples=["gpt-4o"])]
    usage: Annotated[
        TurnUsageView | None,
        Field(description="Of the first turn that came from a model call; else null."),
    ]
    response_id: Annotated[
        str | None,
        Field(
            description="The id of the answer that it belongs to, if it has one.",
            examples=["resp_1c9d278b"],
        ),
    ]
    error: Annotated[
        str | None, Field(description="Why the model did not answer.", examples=[None])
    ]
    status: Annotated[
        Literal["completed", "failed", "cancelled", "in_progress"] | None,
        Field(
            description="What became of a user's message; `cancelled`: its client hung up before "
            "the answer's end. Null for other turns, and if the answer is on the next page.",
            examples=["completed"],
        ),
    ]
    attempts: Annotated[
        list[AttemptView],
        Field(
            description="Of a user's message: the earlier ones of which nothing came, oldest "
            "first. The agent knows the last one only."
        ),
    ]

    @classmethod
    def of(cls, turn: Turn) -> Self:
        """The view."""
        usage = None if turn.usage is None else TurnUsageView.of(turn.usage)
        attempts = [AttemptView.of(each) for each in turn.attempts]
        return cls(**{**vars(turn), "usage": usage, "attempts": attempts})


class TranscriptView(BaseModel):
    """A conversation, or its latest part, oldest first."""

    turns: list[TurnView]
    before: Annotated[
        int | None,
        Field(description="To be asked for with the next older part; null: none.", examples=[None]),
    ]

    @classmethod
    def rendered(cls, transcript: Transcript) -> bytes:
        """The view as JSON; it may be megabytes."""
        turns = [TurnView.of(turn) for turn in transcript.turns]
        return cls(turns=turns, before=transcript.before).model_dump_json().encode()
