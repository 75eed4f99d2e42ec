"""Bodies: an instance's life."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field

from chowder_local.api.schemas.bounds import Id, Name, Overrides, ShortText
from chowder_local.core.domain import InstanceStatus, ModelProvider, Permission

if TYPE_CHECKING:
    from chowder_local.core.domain import Caller, Instance

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

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """The view of an instance's status."""
        return cls(id=instance.id, status=instance.status, gateway_url=instance.gateway_url)
