"""Bodies: conversations, read back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import View
from chowder_local.openclaw.session_keys import MAIN_KEY

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


class SessionView(View):
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


class SessionsView(BaseModel):
    """An agent's conversations, the main one first, then the last used ones."""

    sessions: list[SessionView]


class TurnUsageView(View):
    """Tokens of the model call that a turn came from; those of the cache are among the input."""

    input_tokens: Annotated[int, Field(examples=[16_480])]
    cached_tokens: Annotated[int, Field(examples=[0])]
    cache_write_tokens: Annotated[int, Field(examples=[0])]
    output_tokens: Annotated[int, Field(examples=[12])]


class AttemptView(View):
    """A message of which nothing came, and whose words were sent again."""

    at: datetime | None
    status: Literal["failed", "cancelled"]
    error: Annotated[
        str | None, Field(description="Why the model did not answer.", examples=[None])
    ]


class TurnView(View):
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


class TranscriptView(View):
    """A conversation, or its latest part, oldest first."""

    turns: list[TurnView]
    before: Annotated[
        int | None,
        Field(description="To be asked for with the next older part; null: none.", examples=[None]),
    ]
