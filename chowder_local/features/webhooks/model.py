"""Bodies: webhooks to agents, and those in their inboxes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from chowder_local.api.schemas.messages import EntriesView


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
