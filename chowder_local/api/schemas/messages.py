"""Bodies: what agents say without being asked, and the webhooks that reach and leave them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

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


class HookBody(BaseModel):
    """What a webhook says; OpenClaw takes further members, and those of mappings are free."""

    model_config = ConfigDict(extra="allow")

    text: Annotated[
        str | None,
        Field(description="For `wake`: what happened.", examples=["The build is green."]),
    ] = None
    message: Annotated[
        str | None,
        Field(description="For `agent`: what to do.", examples=["Summarize this import."]),
    ] = None
    name: Annotated[
        str | None, Field(description="For `agent`: the sender's name.", examples=["CI"])
    ] = None
    deliver: Annotated[
        bool | None,
        Field(
            description="For `agent`: false keeps the answer from the main session.",
            examples=[False],
        ),
    ] = None


class HookView(BaseModel):
    """What OpenClaw did for a webhook."""

    status: Annotated[int, Field(description="OpenClaw's own status.", examples=[200])]
    answer: Annotated[
        Any,
        Field(
            description="OpenClaw's answer: `runId` of a turn that begins, `eventOutcome` of a "
            "wake; null if a mapping asked for nothing.",
            examples=[{"ok": True, "runId": "4f77fb67-a2cb-4a18-8e2c-7fdda27e29a4"}],
        ),
    ]


class SentMessagesView(EntriesView):
    """Messages, oldest first."""

    messages: list[SentMessageView]


class WebhookView(BaseModel):
    """A webhook that the agent sent to its inbox."""

    number: Annotated[
        int, Field(description="Counts the agent's webhooks; never used again.", examples=[1])
    ]
    at: datetime
    method: Annotated[str, Field(examples=["POST"])]
    path: Annotated[
        str, Field(description="What comes after the inbox's address.", examples=["/orders"])
    ]
    query: Annotated[str, Field(examples=[""])]
    headers: Annotated[
        list[list[str]],
        Field(
            description="Pairs of a name in lower case and a value. The values of those that may "
            "be secrets are hidden.",
            examples=[[["content-type", "application/json"]]],
        ),
    ]
    body: Annotated[str, Field(examples=['{"status": "ok"}'])]
    is_base64: Annotated[
        bool, Field(description="Whether the body is no text, and in base64.", examples=[False])
    ]


class InboxView(EntriesView):
    """The webhooks that the agent sent, oldest first."""

    url: Annotated[
        str,
        Field(
            description="The inbox's address in the agent's sandbox; anything may follow. Whoever "
            "knows it can write there, but only sandboxes reach it.",
            examples=["http://relay.local:2470/inbox/3f6d8a52-0c1e-4b7a-9d54-1e2f3a4b5c6d.1c9d"],
        ),
    ]
    webhooks: list[WebhookView]
