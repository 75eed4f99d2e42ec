"""Bodies: recordings of an instance's model calls."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.relay.recordings.entries import Entry

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
