"""Bodies: model calls, as they were sent and answered, and recordings of them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.api.schemas.fields import Id
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
        description="Model calls by the names of their files, in whose order they are.",
        examples=[EXAMPLE],
    ),
]


class ExchangeQuery(BaseModel):
    """Which model calls."""

    limit: int = Field(100, ge=1, le=LISTED_MAX, description="So many of the latest.")


class ExchangeView(BaseModel):
    """A model call, in short."""

    id: Annotated[str, Field(examples=["ex-1"])]
    at: datetime
    instance_id: Id
    session: Annotated[
        str | None,
        Field(
            description="Its name; null for the main one and those that are nobody's here.",
            examples=["project-alpha"],
        ),
    ]
    session_key: Annotated[
        str | None,
        Field(
            description="OpenClaw's own; null of what it asks on its own, such as a summary.",
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
    status: Annotated[int | None, Field(description="The provider's.", examples=[200])]
    outcome: Annotated[
        str | None,
        Field(description="As in the metrics; null while it goes on.", examples=["offline"]),
    ]
    error: Annotated[
        str | None, Field(description="What the client was told, if it failed.", examples=[None])
    ]
    took_s: float | None
    request_bytes: int
    answer_bytes: int

    @classmethod
    def of(cls, exchange: LoggedCall, session: SessionName | None) -> Self:
        return cls(**_fields(exchange, session))


class ChunkView(BaseModel):
    """A part of an answer, as it came."""

    after_s: Annotated[float, Field(description="How long after the call.")]
    text: Annotated[str, Field(examples=["event: message_start\ndata: {…}\n\n"])]


class ExchangeDetailsView(ExchangeView):
    """A model call, whole: what the agent really sent, and what came back."""

    request: Annotated[
        Any,
        Field(description="The body; as text if it is no JSON.", examples=[{"model": "gpt-4o"}]),
    ]
    chunks: Annotated[
        list[ChunkView],
        Field(description="The answer in the pieces in which it came; its first megabyte."),
    ]

    @classmethod
    def of(cls, exchange: LoggedCall, session: SessionName | None) -> Self:
        chunks = [
            ChunkView(after_s=each.after_s, text=each.data.decode("utf-8", "replace"))
            for each in exchange.chunks
        ]
        details = {"request": _content(exchange.request), "chunks": chunks}
        return cls(**_fields(exchange, session) | details)


def _fields(exchange: LoggedCall, session: SessionName | None) -> dict[str, Any]:
    return {
        **vars(exchange),
        "session": session.name if session else None,
        "session_key": exchange.session_key,
        "request_bytes": len(exchange.request),
    }


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


class RecordingQuery(BaseModel):
    """Which model calls are to be in a recording."""

    after: str | None = Field(
        None, description="Those after the one with this id only.", examples=["ex-1"]
    )


class RecordingPlayback(BaseModel):
    """What an instance's model calls are to be answered from."""

    entries: Entries


class RecordingView(BaseModel):
    """A recording of the instance's latest model calls, and what they are answered from."""

    entries: Entries
    is_replayed: Annotated[
        bool, Field(description="Whether they are answered from a recording.", examples=[False])
    ]
