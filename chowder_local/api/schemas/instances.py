"""Bodies: instances, their snapshots, and their settings on the local server."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, StrictBool

from chowder_local.api.schemas.fields import Id, Name, Overrides, ShortText, View
from chowder_local.core.domain import (
    DEFAULT_VERSION,
    RELEASE_PATTERN,
    Egress,
    InstanceStatus,
    ModelProvider,
    Permission,
)
from chowder_local.core.strict_model import StrictModel
from chowder_local.instances.snapshots.upgrades import UpgradeFinding

if TYPE_CHECKING:
    from chowder_local.core.domain import Caller, Instance

LINES_MAX = 100_000
OVERRIDES_DESCRIPTION = (
    "Overrides of OpenClaw's configuration. A key is a path with dots, or the name of a nested "
    "object, whose own keys may contain dots. null removes a setting."
)

GatewayUrl = Annotated[str | None, Field(examples=["http://127.0.0.1:32768"])]


OpenclawVersion = Annotated[str, Field(pattern=rf"^({DEFAULT_VERSION}|{RELEASE_PATTERN})$")]


class InstanceCreation(BaseModel):
    """A new instance."""

    name: Name
    model_provider: ModelProvider = ModelProvider.ANTHROPIC
    openclaw_config: Overrides | None = Field(
        None,
        description=OVERRIDES_DESCRIPTION,
        examples=[{"agents.defaults.thinkingDefault": "off"}],
    )
    sandbox_provider: ShortText = "sandbox"
    openclaw_version: Annotated[
        OpenclawVersion | None,
        AfterValidator(lambda version: version or DEFAULT_VERSION),
        Field(
            description="An OpenClaw release whose image is built; `v1` or null: the server's own.",
            examples=["v1", "2026.9.5"],
        ),
    ] = DEFAULT_VERSION
    region: ShortText | None = None


class InstanceChange(BaseModel):
    """Changes to an instance."""

    openclaw_config: Overrides | None = Field(
        None,
        description=f"{OVERRIDES_DESCRIPTION} They are merged with the present ones.",
        examples=[{"agents.defaults.thinkingDefault": "low", "logging": {"level": None}}],
    )
    name: Name | None = None


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
        str | None, Field(description="The error, if the status is `error`.", examples=[None])
    ]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_instance(cls, instance: Instance, caller: Caller) -> Self:
        """The instance, without what the caller's key may not read."""
        view = cls.model_validate(instance, from_attributes=True)
        if not caller.may(Permission.READ, instance.id):
            view.sandbox_id = view.openclaw_config = view.gateway_url = view.error_message = None
        if instance.first_ready_at is None:
            view.sandbox_id = None
        return view


class InstanceStatusView(BaseModel):
    """An instance's status, cheap to poll."""

    id: Id
    status: InstanceStatus
    gateway_url: GatewayUrl


class SnapshotCreation(StrictModel):
    """A new snapshot."""

    name: Annotated[Name | None, Field(examples=["after-onboarding"])] = None


class SnapshotView(View):
    """A copy of an agent's conversations, files and configuration at one moment."""

    id: Id
    instance_id: Annotated[
        Id | None,
        Field(description="The instance that it was taken of, which may be deleted."),
    ]
    name: Annotated[str | None, Field(examples=["after-onboarding"])]
    model_provider: ModelProvider
    openclaw_version: Annotated[
        str | None,
        Field(
            description="The instance's `openclaw_version` then, which a restored one gets back.",
            examples=["v1"],
        ),
    ]
    size_bytes: Annotated[int, Field(description="The size of its archive.", examples=[2_935_296])]
    created_at: datetime


class Upgrade(StrictModel):
    """The OpenClaw release to move to."""

    to: Annotated[OpenclawVersion, Field(examples=["2026.9.7"])]
    dry_run: StrictBool = Field(False, description="Only report what the upgrade would meet.")


class UpgradeView(View):
    """An upgrade, or what it would meet."""

    id: Id
    from_version: Annotated[str, Field(description="The release before.", examples=["2026.8.2"])]
    to_version: Annotated[str, Field(description="The release after.", examples=["2026.9.6"])]
    snapshot_id: Annotated[
        Id | None,
        Field(description="The snapshot to restore to go back; null after a dry run."),
    ]
    status: Annotated[
        InstanceStatus,
        Field(description="`provisioning` while it boots with the new release."),
    ]
    can_upgrade: Annotated[
        bool,
        Field(
            description="False if a finding of a dry run is an unexpected `error`.", examples=[True]
        ),
    ]
    findings: Annotated[
        list[UpgradeFinding], Field(description="Of a dry run, by OpenClaw's own doctor.")
    ]


JobsSwitch = Annotated[
    Literal["on", "off"],
    Field(
        description="Whether the scheduled jobs of the copy run; `off` leaves them switched off, "
        "because two agents would do the same work twice. `on` also runs those that are off in the "
        "original only because that is a copy itself."
    ),
]


class Fork(StrictModel):
    """The new instance."""

    name: Name
    jobs: JobsSwitch = "off"


class Restoration(StrictModel):
    """The snapshot to restore."""

    snapshot_id: Id


class ImportQuery(StrictModel):
    """The name of the imported instance."""

    name: Annotated[Name | None, Field(description="Without it, the exported name.")] = None
    jobs: JobsSwitch = "off"


class LogQuery(StrictModel):
    """The part of a log to read."""

    tail: int = Field(200, ge=1, le=LINES_MAX, description="How many of the last lines.")
    # pydantic would also take numbers.
    since: Annotated[AwareDatetime, BeforeValidator(datetime.fromisoformat)] | None = Field(
        None, description="Leaves out older lines; a time with its zone, in ISO 8601."
    )
    follow: bool = Field(False, description="Whether to stream later lines as well.")


class LocalInstanceChange(StrictModel):
    """Settings of an instance that only the local server has."""

    egress: Annotated[
        Egress | None,
        Field(
            description="`off`: its sandbox reaches the model relay and nothing outside; "
            "null: the server's own setting.",
            examples=["off"],
        ),
    ] = None
    hibernate: Annotated[
        StrictBool | None,
        Field(description="Whether it may leave memory while nobody uses it.", examples=[False]),
    ] = None


class LocalInstanceView(BaseModel):
    """The settings of an instance that only the local server has."""

    id: Id
    name: Annotated[str, Field(examples=["my-first-agent"])]
    status: Annotated[
        InstanceStatus,
        Field(description="`provisioning` while its sandbox is replaced.", examples=["running"]),
    ]
    egress: Annotated[
        Egress | None,
        Field(description="Its own setting; null: the server's applies.", examples=[None]),
    ]
    egress_in_force: Annotated[
        Egress, Field(description="The setting that its sandbox has.", examples=["on"])
    ]
    hibernate: Annotated[
        bool, Field(description="Whether it may leave memory while nobody uses it.")
    ]
    is_hibernated: Annotated[
        bool,
        Field(
            description="Whether it runs without being in memory; its next message or call "
            "brings it back.",
            examples=[False],
        ),
    ]
    node: Annotated[
        str | None,
        Field(description="The machine that has its files, if there are several.", examples=[None]),
    ]

    @classmethod
    def from_instance(cls, instance: Instance, egress_in_force: Egress, node: str | None) -> Self:
        return cls(
            id=instance.id,
            name=instance.name,
            status=instance.status,
            egress=instance.egress,
            egress_in_force=egress_in_force,
            hibernate=instance.may_hibernate,
            is_hibernated=instance.is_hibernated,
            node=node,
        )


class GatewayView(BaseModel):
    """The address and token of an agent's gateway, for direct calls from this machine."""

    gateway_url: Annotated[str | None, Field(examples=["http://127.0.0.1:32768"])]
    token: Annotated[str, Field(examples=["9f2c4e…"])]
