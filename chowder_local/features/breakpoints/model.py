"""Bodies of breakpoints and of the calls that they hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, model_validator

from chowder_local.api.schemas.fields import Id, View
from chowder_local.api.schemas.history import ModelCallView
from chowder_local.api.schemas.messages import MAX_WAIT_S
from chowder_local.core.strict_model import StrictModel
from chowder_local.relay.holds import Release
from chowder_local.relay.scripts.rules import Action, Answer, Condition, Ordinal


class BreakpointMatch(Condition):
    """Which model calls are held: all members that are given must match; without any, every one."""

    call_number: Ordinal | None = Field(
        None, description="The call's number in its turn: 1 is the first call for a message."
    )


class BreakpointSetting(StrictModel):
    """A breakpoint of an instance."""

    match: Annotated[
        BreakpointMatch | None,
        Field(
            description="Which calls are held, with the members of a reply rule's `match`; by "
            "default, every one.",
            examples=[{"text": "weather"}],
        ),
    ] = None
    once: Annotated[
        StrictBool, Field(description="Whether the breakpoint goes with the first call it holds.")
    ] = False


class BreakpointView(View):
    """A breakpoint that is set."""

    match: BreakpointMatch
    once: bool
    set_at: datetime


class HeldCallsQuery(StrictModel):
    """The held calls to list."""

    instance_id: Annotated[Id | None, Field(description="Only those of this instance.")] = None
    wait_s: float = Field(
        0.0,
        ge=0,
        le=MAX_WAIT_S,
        description="So many seconds the answer waits for one, if there is none.",
    )


class HeldCallView(ModelCallView):
    """A model call that is held. `GET /local/model-calls/{model_call_id}` has its request."""

    held_at: datetime
    until: Annotated[datetime, Field(description="When it is refused, if nobody lets it go on.")]


class HeldCallRelease(StrictModel):
    """How a held call goes on: as it is, or by one of these members."""

    request: Annotated[
        dict[str, Any] | None,
        Field(
            description="The body to send instead, in the provider's format.",
            examples=[{"model": "gpt-4o", "input": "Hi"}],
        ),
    ] = None
    reply: Annotated[
        Answer | None,
        Field(
            description="The answer to give in the model's place, as in a reply script: a text, or "
            "an action with `text`, `call`, `error` and so on.",
            examples=["It is sunny."],
        ),
    ] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.request is not None and self.reply is not None:
            raise ValueError("Give request or reply, not both")
        action = self.action
        if action is not None and not (
            (action.text or "").strip()
            or any((action.template, action.chunks, action.call, action.calls, action.error))
        ):
            raise ValueError(
                "OpenClaw calls the model again after an empty answer. Give a text, a call or an "
                "error"
            )
        return self

    @property
    def action(self) -> Action | None:
        return Action(text=self.reply) if isinstance(self.reply, str) else self.reply

    @property
    def release(self) -> Release:
        return Release(self.request, self.action)
