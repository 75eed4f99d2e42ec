"""Bodies: faults, reply scripts and reset, with which tests arrange what happens."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict  # noqa: TC002 - of a constant

from chowder_local.api.schemas.fields import (
    Id,
    SessionField,
)
from chowder_local.core.fault_injection import ChannelEffect, FaultDraft, FaultKind
from chowder_local.core.strict_model import StrictModel
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.relay.scripts.rules import ReplyScript

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import OrganizationId
    from chowder_local.core.fault_injection import Fault
    from chowder_local.relay.scripts.registry import ActiveScript

USUAL_STATUSES: Mapping[FaultKind, int] = {
    FaultKind.CREATE: 402,
    FaultKind.START: 502,
    FaultKind.STOP: 502,
    FaultKind.MESSAGE: 502,
    FaultKind.CALL: 500,
    FaultKind.CHANNEL: 429,
}
USUAL_DETAIL = "Provisioning failed: a fault was injected."
TOO_MANY = 429
NEW = {FaultKind.PROVISIONING, FaultKind.CREATE}
"""Kinds that concern a new instance, so that they have no `instance_id`."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Kind = Annotated[
    FaultKind,
    # A named schema would share a value with another one, and generators for Go would give both
    # values the same name.
    WithJsonSchema({"type": "string", "enum": [str(each) for each in FaultKind]}),
    Field(
        description="Where it is injected. `provisioning`: into the provisioning of a new "
        "instance; `create`, `start`, `stop`: into that call; `message`: into a message, streamed "
        "or not; `stream`: into the stream of a message; `call`: into calls that match `method` "
        "and `path`; `channel`: into what the agent writes, or is written, in a channel that is "
        "connected offline.",
        examples=["message"],
    ),
]
OfInstance = Annotated[Id | None, Field(description="Only calls for this instance.")]
Status = Annotated[
    int | None,
    Field(
        ge=400,
        le=599,
        description="The status of the answer, which has the server's own message for it. By "
        "default 402 for `create`, 500 for `call`, 429 for `channel`, else 502, or none if there "
        "is only a delay.",
        examples=[429],
    ),
]
Detail = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=1000,
        description="The message instead; for `provisioning` it is the instance's `error_message`.",
    ),
]
RetryAfter = Annotated[
    int | None, Field(ge=0, le=86_400, description="`Retry-After`; by default 1 for a 429.")
]
AfterEvents = Annotated[
    int | None,
    Field(
        ge=0,
        le=100_000,
        description="Events of a `stream` before the connection breaks off; 1 if left out.",
    ),
]

ChannelName = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=64,
        description="For `channel`: only this one.",
        examples=["telegram"],
    ),
]
Effect = Annotated[
    ChannelEffect | None,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": [str(each) for each in ChannelEffect]},
                {"type": "null"},
            ]
        }
    ),
    Field(
        description="For `channel`. Of the agent's next message, `refused`: the messenger answers "
        "`status`; `cut`: it ends the connection instead of answering. Of a person's next message, "
        "`twice`: it is delivered twice; `out_of_order`: after the one that follows it; `late`: "
        "after `delay_s`; `disconnect`: the connection ends before it, and it is delivered when "
        "the agent is back. By default `late` with a delay alone, else `refused`.",
        examples=["twice"],
    ),
]


class FaultCreation(StrictModel):
    """A fault for the organization's next calls of a kind."""

    kind: Kind
    times: int = Field(1, ge=1, le=1000, description="How many calls get the fault.")
    instance_id: OfInstance = None
    status: Status = None
    detail: Detail = None
    retry_after_s: RetryAfter = None
    delay_s: float = Field(0.0, ge=0, le=600, description="How long the call waits first.")
    after_events: AfterEvents = None
    method: Method | None = Field(None, description="For `call`: the method; by default any.")
    path: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="For `call`: a path of this document; `*` stands for any part of it.",
        examples=["/v1/instances/{instance_id}/files*"],
    )
    channel: ChannelName = None
    effect: Effect = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        kind = self.kind
        if kind in NEW and self.instance_id is not None:
            raise ValueError(f"A fault of kind {kind} is for a new instance: omit instance_id")
        if self.status is not None and kind not in USUAL_STATUSES:
            raise ValueError(f"A fault of kind {kind} takes no status")
        if self.after_events is not None and kind is not FaultKind.STREAM:
            raise ValueError("Only a fault of kind stream takes after_events")
        if kind is FaultKind.CALL:
            if self.path is None:
                raise ValueError("A fault of kind call needs a path")
        elif self.path is not None or self.method is not None:
            raise ValueError("Only a fault of kind call takes method and path")
        if kind is FaultKind.CHANNEL:
            self._check_effect()
        elif self.channel is not None or self.effect is not None:
            raise ValueError("Only a fault of kind channel takes channel and effect")
        return self

    def _check_effect(self) -> None:
        if self.channel not in {None, *CHANNELS}:
            raise ValueError(f"{self.channel} cannot be connected offline")
        if self.effect is ChannelEffect.LATE and not self.delay_s:
            raise ValueError("What is to be late needs a delay_s")
        answers = (self.status, self.detail, self.retry_after_s)
        is_refusal = self.effect in {None, ChannelEffect.REFUSED}
        if not is_refusal and any(each is not None for each in answers):
            raise ValueError("Only refused takes status, detail and retry_after_s")
        if self.delay_s and not (is_refusal or self.effect is ChannelEffect.LATE):
            raise ValueError("Only refused and late take a delay_s")

    def draft(self) -> FaultDraft:
        """The fault with its defaults."""
        status, detail = self.status, self.detail
        retry_after_s, after_events = self.retry_after_s, self.after_events
        # With a delay alone, the call is only late.
        fails = not self.delay_s or detail is not None or retry_after_s is not None
        effect = self.effect
        if self.kind is FaultKind.CHANNEL:
            effect = effect or (ChannelEffect.REFUSED if fails or status else ChannelEffect.LATE)
            fails = effect is ChannelEffect.REFUSED
        if fails and status is None:
            status = USUAL_STATUSES.get(self.kind)
        if fails and self.kind is FaultKind.PROVISIONING:
            detail = detail or USUAL_DETAIL
        if status == TOO_MANY and retry_after_s is None:
            retry_after_s = 1
        if self.kind is FaultKind.STREAM and after_events is None:
            after_events = 1
        filled = {
            "status": status,
            "detail": detail,
            "retry_after_s": retry_after_s,
            "after_events": after_events,
            "effect": effect,
        }
        return FaultDraft(**self.model_dump() | filled)


class FaultView(BaseModel):
    """A fault that is not used up. Without a `status`, its call is not refused."""

    id: Id
    kind: Kind
    left: Annotated[int, Field(description="How many more calls get it.", examples=[1])]
    instance_id: OfInstance
    status: Annotated[int | None, Field(examples=[429])]
    detail: Annotated[str | None, Field(examples=[None])]
    retry_after_s: Annotated[int | None, Field(examples=[1])]
    delay_s: Annotated[float, Field(examples=[0.0])]
    after_events: Annotated[int | None, Field(examples=[None])]
    method: Annotated[Method | None, Field(examples=[None])]
    path: Annotated[str | None, Field(examples=[None])]
    channel: Annotated[ChannelName, Field(examples=[None])]
    effect: Annotated[Effect, Field(examples=[None])]
    created_at: datetime

    @classmethod
    def from_fault(cls, fault: Fault) -> Self:
        return cls(**vars(fault.draft), **vars(fault))


class ResetView(BaseModel):
    """How many of each a reset removed."""

    instances: Annotated[int, Field(examples=[3])]
    keys: Annotated[int, Field(description="Scoped keys.", examples=[1])]
    faults: Annotated[int, Field(examples=[0])]
    snapshots: Annotated[int, Field(examples=[0])]


EXAMPLE: JsonDict = {
    "unmatched": "fail",
    "replies": [{"match": {"text": "weather"}, "reply": "It is sunny."}],
}


class ReplyScriptChange(ReplyScript):
    """A script of replies, in the format of a script file."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class UnmatchedView(BaseModel):
    """A model call that no rule matched."""

    at: datetime
    instance_id: Id
    provider: Annotated[str, Field(examples=["anthropic"])]
    model: Annotated[str, Field(examples=["gpt-4o"])]
    session: SessionField
    turn: int
    text: Annotated[str, Field(description="The user's message.", examples=["Hello!"])]
    tool: Annotated[
        str | None, Field(description="The tool whose result follows, if any.", examples=["exec"])
    ]
    result: Annotated[str | None, Field(description="The tool's result.", examples=["1000"])]


class ScriptView(BaseModel):
    """An active script and its use."""

    script: Annotated[ReplyScript, Field(description="As it was set.", examples=[EXAMPLE])]
    used: Annotated[list[int], Field(description="How often each rule was used.", examples=[[1]])]
    unmatched: Annotated[
        list[UnmatchedView], Field(description="The latest calls that no rule matched.")
    ]

    @classmethod
    def from_running(cls, running: ActiveScript, organization_id: OrganizationId) -> Self:
        """The script, with the unmatched calls of one organization only."""
        return cls(
            script=running.script,
            used=running.used,
            unmatched=[
                UnmatchedView(
                    at=each.at,
                    instance_id=each.instance_id,
                    tool=each.request.tool,
                    **vars(each.request),
                )
                for each in running.unmatched
                if each.organization_id == organization_id
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """The view as JSON; the script without its defaults."""
        view = self.model_dump(mode="json")
        return view | {"script": self.script.model_dump(mode="json", exclude_unset=True)}


class RepliesView(BaseModel):
    """The scripts of an organization or instance, and of the server."""

    own: Annotated[
        ScriptView | None,
        Field(description="The script of the organization or instance; null: none."),
    ]
    server: Annotated[
        ScriptView | None,
        Field(description="The script that the server was started with, which is tried last."),
    ]
