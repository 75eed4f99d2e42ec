"""The bodies of the contract: what is taken, with its bounds, and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from chowder_local.domain import InstanceStatus, ModelProvider, Tier

if TYPE_CHECKING:
    from chowder_local.accounts.organizations import OrganizationDetails
    from chowder_local.domain import Instance

Name = Annotated[str, Field(min_length=1, max_length=128)]

# Both travel in headers, where anything else would end the request or begin another.
ModelKey = Annotated[str, Field(max_length=512, pattern=r"^[\x21-\x7e]*$")]
ModelId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]


class Signup(BaseModel):
    """A new organization."""

    name: Name


class OrganizationChange(BaseModel):
    """What of an organization is to change; model keys are merged with those set."""

    name: Name | None = None
    model_api_keys: dict[ModelProvider, ModelKey] | None = Field(
        None,
        description='A key for each provider; `""` removes one, `"offline"` selects the '
        "built-in offline model.",
        examples=[{"anthropic": "offline"}],
    )


class OrganizationView(BaseModel):
    """An organization; its model keys are never shown, only whose are set."""

    id: str
    name: str
    model_providers: list[ModelProvider]
    subscription_tier: Tier
    instance_limit: int | None
    instance_count: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, details: OrganizationDetails) -> Self:
        """The view of an organization."""
        organization = details.organization
        return cls(
            id=organization.id,
            name=organization.name,
            model_providers=list(organization.model_providers),
            subscription_tier=organization.tier,
            instance_limit=organization.tier.instance_limit,
            instance_count=details.instance_count,
            created_at=organization.created_at,
            updated_at=organization.updated_at,
        )


class SignupView(BaseModel):
    """A new organization and its key, which is shown this once."""

    organization: OrganizationView
    api_key: str


class InstanceCreation(BaseModel):
    """A new instance."""

    name: Name
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    sandbox_provider: str = "sandbox"
    openclaw_version: str = "v1"
    openclaw_config: dict[str, Any] | None = Field(
        None,
        description="Overrides of OpenClaw's configuration: dot paths as keys, or nested objects.",
        examples=[{"agents.defaults.thinkingDefault": "off"}],
    )
    region: str | None = None


class InstanceChange(BaseModel):
    """What of an instance is to change."""

    name: Name | None = None
    openclaw_config: dict[str, Any] | None = None


class InstanceView(BaseModel):
    """An instance. `sandbox_id` and `gateway_url` are null until it is ready."""

    id: str
    organization_id: str
    name: str
    status: InstanceStatus
    model_provider: ModelProvider
    sandbox_provider: str
    sandbox_id: str | None
    openclaw_version: str
    openclaw_config: dict[str, Any] | None
    gateway_url: str | None
    region: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """The view of an instance."""
        known = {name: getattr(instance, name) for name in cls.model_fields}
        return cls(**known | {"sandbox_id": instance.sandbox_id if instance.born_at else None})


class InstanceStatusView(BaseModel):
    """An instance's status, light enough to poll."""

    id: str
    status: InstanceStatus
    gateway_url: str | None

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """The view of an instance's status."""
        return cls(id=instance.id, status=instance.status, gateway_url=instance.gateway_url)


class Message(BaseModel):
    """A request in the OpenAI Responses format; members not listed here are taken, too."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[ModelId, Field(examples=["claude-sonnet-4-20250514"])]
    input: Annotated[
        str | list[dict[str, Any]], Field(examples=["Hey! Who are you and what can you do?"])
    ]
    stream: bool | None = None


class ResponseView(BaseModel):
    """A Responses resource."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: str
    status: str
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None


class ErrorView(BaseModel):
    """What went wrong."""

    detail: str


class GatewayErrorView(BaseModel):
    """A gateway, sandbox or model provider failed."""

    detail: dict[str, str]


class ValidationErrorView(BaseModel):
    """Which parts of the request break a bound."""

    detail: list[dict[str, Any]]


class GatewayView(BaseModel):
    """How this machine reaches an agent's gateway directly."""

    gateway_url: str | None
    token: str


class ReadyView(BaseModel):
    """The server takes calls."""

    ready: bool


class HealthView(BaseModel):
    """What the server says of itself."""

    model_config = ConfigDict(extra="allow")

    status: str
    version: str
