"""Bodies: what agents say without being asked, and the webhooks that reach and leave them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import SessionKeyField
from chowder_local.core.strict_model import StrictModel
from chowder_local.relay.prompt_format import TurnKind
from chowder_local.store.agent_entries import PAGE_SIZE

MAX_WAIT_S = 25.0
"""Less than most clients wait for an answer."""
NUMBER_MAX = (1 << 53) - 1


class EntriesQuery(StrictModel):
    """The entries to list."""

    after: int = Field(
        0,
        ge=0,
        le=NUMBER_MAX,
        description="Only later ones: `after` of the answer before. 0: all that are kept.",
    )
    wait_s: float = Field(
        0.0,
        ge=0,
        le=MAX_WAIT_S,
        description="So many seconds the answer waits for one, if there is none.",
    )
    limit: int = Field(PAGE_SIZE, ge=1, le=PAGE_SIZE, description="How many, at most.")


class MessagesQuery(EntriesQuery):
    """The messages to list."""

    session: str | None = Field(
        None,
        min_length=1,
        max_length=8192,
        description="Only those in this session: its name, `main`, or OpenClaw's key.",
    )


class SentMessageView(BaseModel):
    """Something that an agent said without being asked."""

    number: Annotated[
        int, Field(description="Counts the agent's messages; never used again.", examples=[1])
    ]
    at: datetime
    kind: Annotated[
        TurnKind, Field(description="What began the turn, as in traces.", examples=["job"])
    ]
    job: Annotated[
        str | None, Field(description="Name of the job that began it.", examples=["daily"])
    ]
    session: Annotated[
        str | None,
        Field(
            description="The session's name; null for the main session and OpenClaw's own.",
            examples=[None],
        ),
    ]
    session_key: SessionKeyField
    text: Annotated[str, Field(examples=["It is nine o'clock."])]
    is_cut: Annotated[
        bool,
        Field(description="Whether the text is cut at 65,536 characters.", examples=[False]),
    ]
    trace_id: Annotated[
        str,
        Field(
            description="Id of its trace, which is in memory only.",
            examples=["5bf024d133589c269a9492149020d5fe"],
        ),
    ]
    model_calls: Annotated[int, Field(description="How many the agent made.", examples=[1])]
    is_reported: Annotated[
        bool,
        Field(
            description="False for the result of a sub-agent that its agent has not passed on, "
            "because it had nothing to say or its model failed.",
            examples=[True],
        ),
    ] = True


class EntriesView(BaseModel):
    """A part of a list that grows."""

    after: Annotated[
        int,
        Field(
            description="`after` of the next call. It stays valid when the server restarts.",
            examples=[1],
        ),
    ]
    is_incomplete: Annotated[
        bool,
        Field(
            description="Whether others came after `after` of the call that are not kept any more: "
            "of each agent the latest 1,000 are, or 8 MB.",
            examples=[False],
        ),
    ]


class SentMessagesView(EntriesView):
    """Messages, oldest first."""

    messages: list[SentMessageView]
