"""Bodies: traces, which show what an agent did in a turn."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import Id
from chowder_local.instances.conversations.trace_log import TurnStatus
from chowder_local.relay.turn_steps import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.local_model import SessionName

LISTED_MAX = 1_000


class TraceQuery(BaseModel):
    """The traces to list."""

    limit: int = Field(
        100, ge=1, le=LISTED_MAX, description="How many of the latest turns, at most."
    )


class TraceView(BaseModel):
    """A turn: a message and all that the agent did until its answer was complete."""

    id: Annotated[
        str,
        Field(
            description="The turn's id from its beginning, also if it fails: that of its request "
            "(`X-Request-Id`).",
            examples=["5bf024d133589c269a9492149020d5fe"],
        ),
    ]
    response_id: Annotated[
        str | None,
        Field(
            description="The answer's id; null if there is no answer.",
            examples=["resp_0f8fad5b-d9cb-469f-a165-70867728950e"],
        ),
    ]
    instance_id: Id
    session: Annotated[
        str | None,
        Field(
            description="The session's name; null for the main session.", examples=["project-alpha"]
        ),
    ]
    session_key: Annotated[
        str, Field(description="OpenClaw's key of the session.", examples=["agent:main:main"])
    ]
    at: Annotated[datetime, Field(description="When the message arrived.")]
    took_s: Annotated[float, Field(description="Until now if in progress.", examples=[0.41])]
    status: Annotated[
        TurnStatus, Field(description="How the turn ended, if it has.", examples=["answered"])
    ]
    error: Annotated[
        str | None,
        Field(description="Why it failed, if the answer had not begun.", examples=[None]),
    ]
    model_calls: Annotated[int, Field(description="How many the agent made.", examples=[2])]

    @classmethod
    def from_turn(cls, turn: TracedTurn, session: SessionName | None) -> Self:
        return cls(**_members(turn, session))


class TraceDetailsView(TraceView):
    """A turn and its steps, those of model calls that are still in memory."""

    steps: list[Step]

    @classmethod
    def from_steps(
        cls, turn: TracedTurn, session: SessionName | None, steps: Sequence[Step]
    ) -> Self:
        return cls(**_members(turn, session), steps=list(steps))


def _members(turn: TracedTurn, session: SessionName | None) -> dict[str, Any]:
    return {
        **vars(turn),
        "took_s": turn.took_s,
        "session": session.name if session else None,
        "model_calls": len(turn.exchange_ids),
    }
