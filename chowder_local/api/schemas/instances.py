"""Bodies: an instance's life, its snapshots, and what only the local server tells of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.fields import Id, Name, Overrides, ShortText, View
from chowder_local.core.domain import Egress, InstanceStatus, ModelProvider, Permission

if TYPE_CHECKING:
    from chowder_local.core.domain import Caller, Instance

LINES_MAX = 100_000
OVERRIDES_DESCRIPTION = (
    "Overrides of OpenClaw's configuration: paths with dots as keys, or nested objects, whose "
    "own keys may contain dots. null removes a setting."
)

GatewayUrl = Annotated[str | None, Field(examples=["http://127.0.0.1:32768"])]


class InstanceCreation(BaseModel):
    """A new instance."""

    name: Name
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    sandbox_provider: ShortText = "sandbox"
    openclaw_version: ShortText = "v1"
    openclaw_config: Overrides | None = Field(
        None,
        description=OVERRIDES_DESCRIPTION,
        examples=[{"agents.defaults.thinkingDefault": "off"}],
    )
    region: ShortText | None = None


class InstanceChange(BaseModel):
    """What of an instance is to change."""

    name: Name | None = None
    openclaw_config: Overrides | None = Field(
        None,
        description=f"{OVERRIDES_DESCRIPTION} They are laid over those in force.",
        examples=[{"agents.defaults.thinkingDefault": "low", "logging": {"level": None}}],
    )


class InstanceView(BaseModel):
    """An instance. `sandbox_id` and `gateway_url` are null until it is ready.

    To a scoped key without the permission `read` for it, these two, `openclaw_config` and
    `error_message` are null.
    """

    id: Id
    organization_id: Id
    name: Annotated[str, Field(examples=["my-first-agent"])]
    status: InstanceStatus
    model_provider: ModelProvider
    sandbox_provider: Annotated[str, Field(examples=["sandbox"])]
    sandbox_id: Annotated[str | None, Field(examples=["chowder-5b3c1d9e7f20"])]
    openclaw_version: Annotated[str, Field(examples=["v1"])]
    openclaw_config: dict[str, Any] | None
    gateway_url: GatewayUrl
    region: Annotated[str | None, Field(examples=[None])]
    error_message: Annotated[
        str | None, Field(description="What went wrong, if the status is `error`.", examples=[None])
    ]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, instance: Instance, caller: Caller) -> Self:
        """The view of an instance that its caller's key allows."""
        view = cls.model_validate(instance, from_attributes=True)
        if not caller.may(Permission.READ, instance.id):
            view.sandbox_id = view.openclaw_config = view.gateway_url = view.error_message = None
        if instance.first_ready_at is None:
            view.sandbox_id = None
        return view


class InstanceStatusView(BaseModel):
    """An instance's status, light enough to poll."""

    id: Id
    status: InstanceStatus
    gateway_url: GatewayUrl


class SnapshotCreation(BaseModel):
    """A new snapshot."""

    name: Annotated[Name | None, Field(examples=["after-onboarding"])] = None


class SnapshotView(View):
    """An agent as it was: its conversations, files and configuration."""

    id: Id
    instance_id: Annotated[
        Id | None,
        Field(description="Of which instance it was made, which may be gone since."),
    ]
    name: Annotated[str | None, Field(examples=["after-onboarding"])]
    model_provider: ModelProvider
    size_bytes: Annotated[int, Field(description="Of its archive.", examples=[2_935_296])]
    created_at: datetime


class Fork(BaseModel):
    """The instance that is to be made."""

    name: Name


class Restoration(BaseModel):
    """What an instance is to be again."""

    snapshot_id: Id


class ImportQuery(BaseModel):
    """How an imported agent is to be called."""

    name: Annotated[Name | None, Field(description="Else as it was called there.")] = None


class LogQuery(BaseModel):
    """Which part of a log."""

    tail: int = Field(200, ge=1, le=LINES_MAX, description="So many of the last lines.")
    follow: bool = Field(False, description="Whether to go on with what is printed from now on.")


class LocalInstanceChange(BaseModel):
    """What only the local server lets choose for an instance."""

    egress: Annotated[
        Egress | None,
        Field(
            description="`off`: its sandbox reaches the model relay and nothing outside; "
            "null: as the server's own setting has it.",
            examples=["off"],
        ),
    ]


class LocalInstanceView(BaseModel):
    """What only the local server tells of an instance."""

    id: Id
    name: Annotated[str, Field(examples=["my-first-agent"])]
    status: Annotated[
        InstanceStatus,
        Field(description="`provisioning` while its sandbox is made anew.", examples=["running"]),
    ]
    egress: Annotated[
        Egress | None,
        Field(description="What was chosen for it; null: nothing.", examples=[None]),
    ]
    egress_in_force: Annotated[
        Egress, Field(description="What its sandbox is, or will be, made by.", examples=["on"])
    ]

    @classmethod
    def of(cls, instance: Instance, egress_in_force: Egress) -> Self:
        """The view; the server's own setting is for the caller to know."""
        return cls(
            id=instance.id,
            name=instance.name,
            status=instance.status,
            egress=instance.egress,
            egress_in_force=egress_in_force,
        )


class GatewayView(BaseModel):
    """How this machine reaches an agent's gateway directly."""

    gateway_url: Annotated[str | None, Field(examples=["http://127.0.0.1:32768"])]
    token: Annotated[str, Field(examples=["9f2c4e…"])]
