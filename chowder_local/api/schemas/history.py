"""Bodies: what agents did, as transcripts, traces and model calls."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StrictBool
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.api.schemas.fields import (
    Id,
    SessionField,
    View,
)
from chowder_local.core import untrusted_json
from chowder_local.core.strict_model import StrictModel
from chowder_local.instances.conversations.trace_log import TurnStatus
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.prompt_format import TurnKind
from chowder_local.relay.recordings import RecordedCall
from chowder_local.relay.turn_steps import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.local_model import SessionName
from chowder_local.openclaw.transcripts.turns import Attempt, TurnUsage

MESSAGES_MAX = 1000
POSITION_MAX = (1 << 53) - 1
KEY_CHARACTERS = 8192


class TranscriptQuery(StrictModel):
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


LISTED_MAX = 1_000


class TraceQuery(StrictModel):
    """The traces to list."""

    limit: int = Field(
        100, ge=1, le=LISTED_MAX, description="How many of the latest turns, at most."
    )


class TraceView(BaseModel):
    """A turn: all that an agent did for a message, or by itself, until its answer was complete."""

    id: Annotated[
        str,
        Field(
            description="The turn's id from its beginning, also if it fails: that of its request "
            "(`X-Request-Id`), if a client sent a message.",
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
    kind: Annotated[
        TurnKind,
        Field(
            description="What began it. `message`: a client's message; `channel`: somebody in a "
            "messenger. The others are the agent's own: a scheduled job, a heartbeat, a sub-agent "
            "or its report, a webhook, or OpenClaw's own work (`other`).",
            examples=["message"],
        ),
    ]
    job: Annotated[str | None, Field(description="Name of the job that began it.", examples=[None])]
    instance_id: Id
    session: SessionField
    session_key: Annotated[
        str | None,
        Field(
            description="OpenClaw's key of the session; null for its own work, such as summaries.",
            examples=["agent:main:main"],
        ),
    ]
    at: Annotated[datetime, Field(description="When the message arrived, or the first model call.")]
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
        "model_calls": len(turn.model_call_ids),
    }


ENTRIES_MAX = 10_000
EXAMPLE: JsonDict = {
    "0001-openai-gpt-4o.json": {
        "format": 1,
        "asked": {
            "provider": "openai",
            "model": "gpt-4o",
            "is_streamed": True,
            "turns": [{"said": "Hello!"}],
        },
        "answered": {"status": 200, "content_type": "text/event-stream", "events": ["data: {}"]},
    }
}

Entries = Annotated[
    dict[str, RecordedCall],
    Field(
        max_length=ENTRIES_MAX,
        description="Model calls by file name, in the order of the names.",
        examples=[EXAMPLE],
    ),
]


class ModelCallQuery(StrictModel):
    """The model calls to list."""

    limit: int = Field(
        100, ge=1, le=LISTED_MAX, description="How many of the latest calls, at most."
    )


class ModelCallView(BaseModel):
    """A summary of a model call."""

    id: Annotated[str, Field(examples=["ex-1"])]
    at: datetime
    instance_id: Id
    session: SessionField
    session_key: Annotated[
        str | None,
        Field(
            description="OpenClaw's key of the session; null for its own calls, such as summaries.",
            examples=["agent:main:main"],
        ),
    ]
    turn_id: Annotated[
        str | None, Field(description="The same for all calls of a turn.", examples=["4bf92f35"])
    ]
    provider: Annotated[str, Field(examples=["anthropic"])]
    path: Annotated[str, Field(examples=["v1/messages"])]
    source: Annotated[
        str,
        Field(description="provider, offline, or `script: ` and the rule.", examples=["offline"]),
    ]
    status: Annotated[int | None, Field(description="The provider's status.", examples=[200])]
    outcome: Annotated[
        str | None,
        Field(description="As in the metrics; null while it is in progress.", examples=["offline"]),
    ]
    error: Annotated[
        str | None, Field(description="The error that the agent got.", examples=[None])
    ]
    took_s: float | None
    request_bytes: int
    answer_bytes: int

    @classmethod
    def from_call(cls, call: ModelCall, session: SessionName | None) -> Self:
        return cls(**_fields(call, session))


class ChunkView(BaseModel):
    """A chunk of an answer."""

    after_s: Annotated[float, Field(description="Seconds since the call.")]
    text: Annotated[str, Field(examples=["event: message_start\ndata: {…}\n\n"])]


class ModelCallDetailsView(ModelCallView):
    """A model call with its request and its answer."""

    request: Annotated[
        Any,
        Field(description="The body; as text if it is not JSON.", examples=[{"model": "gpt-4o"}]),
    ]
    chunks: Annotated[
        list[ChunkView],
        Field(description="The first megabyte of the answer, in the chunks that arrived."),
    ]

    @classmethod
    def from_call(cls, call: ModelCall, session: SessionName | None) -> Self:
        chunks = [
            ChunkView(after_s=each.after_s, text=each.data.decode("utf-8", "replace"))
            for each in call.chunks
        ]
        details = {"request": _content(call.body), "chunks": chunks}
        return cls(**_fields(call, session) | details)


def _fields(call: ModelCall, session: SessionName | None) -> dict[str, Any]:
    return {
        **vars(call),
        "session": session.name if session else None,
        "session_key": call.session_key,
        "request_bytes": len(call.body),
    }


def _content(body: bytes) -> Any:
    try:
        return untrusted_json.read_encodable(body)
    except ValueError:
        return body.decode("utf-8", "replace")


class RecordingQuery(StrictModel):
    """The model calls to record."""

    after: str | None = Field(
        None, description="Id of a model call: only later ones.", examples=["ex-1"]
    )


class RecordingPlayback(StrictModel):
    """The recording to replay."""

    entries: Entries
    in_order: StrictBool = Field(
        False,
        description="Whether each entry answers one call of a session, in their order, whatever "
        "the call asks.",
    )
    then_live: StrictBool = Field(
        False,
        description="Whether the entries are in order, and the model answers after the last one.",
    )


class RunFileQuery(StrictModel):
    """How to give a run."""

    earlier: bool = Field(
        False, description="With the earlier turns of the session, if the run is one turn."
    )
    redact: bool = Field(
        False,
        description="Without the server's own secrets, model keys, and whatever looks like a "
        "secret.",
    )


class RecordingView(BaseModel):
    """A recording of the instance's latest model calls."""

    entries: Entries
    is_replayed: Annotated[
        bool, Field(description="Whether a recording is replayed.", examples=[False])
    ]
