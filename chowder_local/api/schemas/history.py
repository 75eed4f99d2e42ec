"""Bodies: sessions and transcripts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import View
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.openclaw.transcripts.turns import Attempt, TurnUsage

MESSAGES_MAX = 1000
POSITION_MAX = (1 << 53) - 1
KEY_CHARACTERS = 8192


class TranscriptQuery(BaseModel):
    """The part of a transcript to read."""

    limit: int = Field(
        100,
        ge=1,
        le=MESSAGES_MAX,
        description="How many of the last messages, at most; fewer if they are long.",
    )
    before: int | None = Field(
        None,
        ge=0,
        le=POSITION_MAX,
        description="Only messages before this position: `before` of the answer with later ones.",
    )


class KeyedTranscriptQuery(TranscriptQuery):
    """The part of a transcript to read, and OpenClaw's key of its session."""

    key: str = Field(
        MAIN_KEY,
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="OpenClaw's key of a conversation without a name, such as a channel's.",
    )


class SessionView(View):
    """A session of an agent."""

    name: Annotated[
        str | None,
        Field(
            description="The session's name; null for the main session and OpenClaw's own.",
            examples=["project-alpha"],
        ),
    ]
    key: Annotated[str, Field(description="OpenClaw's key of it.", examples=[MAIN_KEY])]
    is_main: bool
    channel: Annotated[
        str | None, Field(description="The channel that it belongs to.", examples=[None])
    ]
    created_at: datetime | None
    last_used_at: datetime | None
    messages: Annotated[
        int, Field(description="How many OpenClaw keeps, with tool results.", examples=[4])
    ]


class SessionsView(BaseModel):
    """An agent's sessions: the main one first, then by last use."""

    sessions: list[SessionView]


class TurnView(View):
    """A message, a tool call or a tool result."""

    position: Annotated[
        int, Field(description="The position of OpenClaw's message, from 0.", examples=[1])
    ]
    role: Literal["user", "assistant", "tool_call", "tool_result"]
    at: datetime | None
    text: Annotated[
        str | None,
        Field(description="The text of a message or tool result.", examples=["Hello!"]),
    ]
    name: Annotated[str | None, Field(description="The tool's name.", examples=[None])]
    call_id: Annotated[
        str | None, Field(description="The same for a call and its result.", examples=[None])
    ]
    arguments: Annotated[
        dict[str, Any] | None, Field(description="The arguments of a call.", examples=[None])
    ]
    is_error: Annotated[
        bool | None, Field(description="Whether a tool result is an error.", examples=[None])
    ]
    images: Annotated[int, Field(description="How many images it has.", examples=[0])]
    is_cut: Annotated[
        bool, Field(description="Whether it is cut at 200,000 characters.", examples=[False])
    ]
    model: Annotated[str | None, Field(examples=["gpt-4o"])]
    usage: Annotated[
        TurnUsage | None,
        Field(description="For the first turn of a model call; else null."),
    ]
    response_id: Annotated[
        str | None,
        Field(
            description="The id of the response that it belongs to, if any.",
            examples=["resp_1c9d278b"],
        ),
    ]
    error: Annotated[
        str | None, Field(description="Why the model did not answer.", examples=[None])
    ]
    status: Annotated[
        Literal["completed", "failed", "cancelled", "in_progress"] | None,
        Field(
            description="The status of a user's message; `cancelled`: its client disconnected "
            "before the end of the answer. Null for other turns, and if the answer is on the next "
            "page.",
            examples=["completed"],
        ),
    ]
    attempts: Annotated[
        list[Attempt],
        Field(
            description="For a user's message: earlier attempts without an answer, oldest first. "
            "The agent's own history has only the last one."
        ),
    ]


class TranscriptView(View):
    """A page of a transcript, oldest turn first."""

    turns: list[TurnView]
    before: Annotated[
        int | None,
        Field(description="`before` of the next older page; null: there is none.", examples=[None]),
    ]
