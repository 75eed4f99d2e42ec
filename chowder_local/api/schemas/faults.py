"""Bodies: faults that are set, and what a reset has removed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from chowder_local.api.schemas.fields import Id
from chowder_local.core.fault_injection import FaultDraft, FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.fault_injection import Fault

USUAL_STATUSES: Mapping[FaultKind, int] = {
    FaultKind.CREATE: 402,
    FaultKind.START: 502,
    FaultKind.STOP: 502,
    FaultKind.MESSAGE: 502,
    FaultKind.CALL: 500,
}
USUAL_WORDS = "Provisioning failed: a fault was asked for."
TOO_MANY = 429
NEW = {FaultKind.PROVISIONING, FaultKind.CREATE}
"""Kinds of calls that make an instance, so that they name none."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Kind = Annotated[
    FaultKind,
    Field(
        description="What it is injected into. `provisioning`: a new instance, on its way; "
        "`create`, `start`, `stop`: that call; `message`: a message, streamed or not; `stream`: a "
        "message's stream; `call`: the calls that `method` and `path` name.",
        examples=["message"],
    ),
]
OfInstance = Annotated[Id | None, Field(description="Only calls for that instance.")]
Status = Annotated[
    int | None,
    Field(
        ge=400,
        le=599,
        description="What the call is answered with, in the words that it has there. Left out: "
        "402 for `create`, 500 for `call`, else 502; but if there is a delay, the call only waits.",
        examples=[429],
    ),
]
Detail = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=1000,
        description="Other words; of an instance that is not provisioned, its `error_message`.",
    ),
]
RetryAfter = Annotated[
    int | None, Field(ge=0, le=86_400, description="`Retry-After`; of a 429 it is 1 if left out.")
]
AfterEvents = Annotated[
    int | None,
    Field(
        ge=0,
        le=100_000,
        description="So many events come of a `stream`, then the connection breaks off; 1 if left "
        "out.",
    ),
]


class FaultCreation(BaseModel):
    """A fault for the organization's next calls of a kind."""

    kind: Kind
    times: int = Field(1, ge=1, le=1000, description="How many calls it is injected into.")
    instance_id: OfInstance = None
    status: Status = None
    detail: Detail = None
    retry_after_s: RetryAfter = None
    delay_s: float = Field(
        0.0, ge=0, le=600, description="How long the call waits before anything happens."
    )
    after_events: AfterEvents = None
    method: Method | None = Field(None, description="Of a `call`: any, if left out.")
    path: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Of a `call`: a path as this document has it, `*` standing for any part of it.",
        examples=["/v1/instances/{instance_id}/files*"],
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        kind = self.kind
        if kind in NEW and self.instance_id is not None:
            raise ValueError(f"A fault of kind {kind} has no instance_id: it is for a new instance")
        if self.status is not None and kind not in USUAL_STATUSES:
            raise ValueError(f"A fault of kind {kind} has no status")
        if self.after_events is not None and kind is not FaultKind.STREAM:
            raise ValueError(f"A fault of kind {kind} has no after_events, which kind stream has")
        if kind is FaultKind.CALL:
            if self.path is None:
                raise ValueError("A fault of kind call has a path")
        elif self.path is not None or self.method is not None:
            raise ValueError(f"A fault of kind {kind} has no method or path, which kind call has")
        return self

    def draft(self) -> FaultDraft:
        """The fault with everything that was left out."""
        status, detail = self.status, self.detail
        retry_after_s, after_events = self.retry_after_s, self.after_events
        # With a message it fails, too; with a delay alone it is only late.
        fails = not self.delay_s or detail is not None or retry_after_s is not None
        if fails and status is None:
            status = USUAL_STATUSES.get(self.kind)
        if fails and self.kind is FaultKind.PROVISIONING:
            detail = detail or USUAL_WORDS
        if status == TOO_MANY and retry_after_s is None:
            retry_after_s = 1
        if self.kind is FaultKind.STREAM and after_events is None:
            after_events = 1
        filled = {
            "status": status,
            "detail": detail,
            "retry_after_s": retry_after_s,
            "after_events": after_events,
        }
        return FaultDraft(**self.model_dump() | filled)


class FaultView(BaseModel):
    """A fault that waits for its next call. With no `status`, that call is not refused."""

    id: Id
    kind: Kind
    left: Annotated[int, Field(description="For how many calls it still is.", examples=[1])]
    instance_id: OfInstance
    status: Annotated[int | None, Field(examples=[429])]
    detail: Annotated[str | None, Field(examples=[None])]
    retry_after_s: Annotated[int | None, Field(examples=[1])]
    delay_s: Annotated[float, Field(examples=[0.0])]
    after_events: Annotated[int | None, Field(examples=[None])]
    method: Annotated[Method | None, Field(examples=[None])]
    path: Annotated[str | None, Field(examples=[None])]
    created_at: datetime

    @classmethod
    def of(cls, fault: Fault) -> Self:
        return cls(**vars(fault.draft), **vars(fault))


class ResetView(BaseModel):
    """What a reset has removed."""

    instances: Annotated[int, Field(examples=[3])]
    keys: Annotated[int, Field(description="Scoped ones.", examples=[1])]
    faults: Annotated[int, Field(examples=[0])]
    snapshots: Annotated[int, Field(examples=[0])]
