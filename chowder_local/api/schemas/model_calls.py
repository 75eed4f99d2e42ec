"""Bodies: model calls and recordings."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.api.schemas.fields import Id
from chowder_local.core import untrusted_json
from chowder_local.relay.recordings.entries import Entry

if TYPE_CHECKING:
    from chowder_local.relay.call_log import LoggedCall
    from chowder_local.relay.local_model import SessionName

LISTED_MAX = 1_000
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
    dict[str, Entry],
    Field(
        max_length=ENTRIES_MAX,
        description="Model calls by file name, in the order of the names.",
        examples=[EXAMPLE],
    ),
]


class ExchangeQuery(BaseModel):
    """The model calls to list."""

    limit: int = Field(
        100, ge=1, le=LISTED_MAX, description="How many of the latest calls, at most."
    )


class ExchangeView(BaseModel):
    """A summary of a model call."""

    id: Annotated[str, Field(examples=["ex-1"])]
    at: datetime
    instance_id: Id
    session: Annotated[
        str | None,
        Field(
            description="The session's name; null for the main session and OpenClaw's own.",
            examples=["project-alpha"],
        ),
    ]
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
    def from_call(cls, call: LoggedCall, session: SessionName | None) -> Self:
        return cls(**_fields(call, session))


class ChunkView(BaseModel):
    """A chunk of an answer."""

    after_s: Annotated[float, Field(description="Seconds since the call.")]
    text: Annotated[str, Field(examples=["event: message_start\ndata: {…}\n\n"])]


class ExchangeDetailsView(ExchangeView):
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
    def from_call(cls, call: LoggedCall, session: SessionName | None) -> Self:
        chunks = [
            ChunkView(after_s=each.after_s, text=each.data.decode("utf-8", "replace"))
            for each in call.chunks
        ]
        details = {"request": _content(call.request), "chunks": chunks}
        return cls(**_fields(call, session) | details)


def _fields(call: LoggedCall, session: SessionName | None) -> dict[str, Any]:
    return {
        **vars(call),
        "session": session.name if session else None,
        "session_key": call.session_key,
        "request_bytes": len(call.request),
    }


def _content(body: bytes) -> Any:
    try:
        return untrusted_json.read_encodable(body)
    except ValueError:
        return body.decode("utf-8", "replace")


class RecordingQuery(BaseModel):
    """The model calls to record."""

    after: str | None = Field(
        None, description="Id of a model call: only later ones.", examples=["ex-1"]
    )


class RecordingPlayback(BaseModel):
    """The recording to replay."""

    entries: Entries


class RecordingView(BaseModel):
    """A recording of the instance's latest model calls."""

    entries: Entries
    is_replayed: Annotated[
        bool, Field(description="Whether a recording is replayed.", examples=[False])
    ]
