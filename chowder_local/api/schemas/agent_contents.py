"""Bodies: the files, channels and skills of an agent."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from chowder_local.api.schemas.fields import Overrides, View
from chowder_local.openclaw.channel_table import ConnectionType
from chowder_local.openclaw.channels import ConnectionStatus

if TYPE_CHECKING:
    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.channels import ChannelState
    from chowder_local.openclaw.skills import Installation

MAX_PATH_CHARS = 4096

Path = Annotated[
    str,
    Field(
        max_length=MAX_PATH_CHARS,
        description="Relative to the instance root. Symbolic links are not followed.",
        examples=["workspace/notes.md"],
    ),
]


class FolderQuery(BaseModel):
    """The folder to list."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARS,
            description='Relative to the instance root, which is "."; links are not followed.',
            examples=["workspace"],
        ),
    ] = "."


class FileQuery(BaseModel):
    """The file to read."""

    path: Path


class FileWriting(BaseModel):
    """A text file to create or replace, with the folders above it."""

    path: Path
    content: Annotated[str, Field(examples=["# Notes\n"])]


class FileUpload(BaseModel):
    """A form with a file; its two parts may come in any order."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARS,
            description='The file to create. If the path ends with "/", or is a folder, the file '
            "gets its name from the upload.",
            examples=["workspace/logo.png"],
        ),
    ]
    file: Annotated[bytes, Field(description="The content, of any size.", examples=["any bytes"])]


class FileView(BaseModel):
    """A text file."""

    path: Annotated[str, Field(examples=["workspace/notes.md"])]
    content: Annotated[str, Field(examples=["# Notes\n"])]


class EntryView(BaseModel):
    """An entry of a folder. Bytes of its name that are not UTF-8 are shown as U+FFFD."""

    name: Annotated[str, Field(examples=["notes.md"])]
    path: Annotated[str, Field(examples=["workspace/notes.md"])]
    is_dir: Annotated[bool, Field(examples=[False])]
    size: Annotated[int, Field(description="In bytes.", examples=[1024])]
    mod_time: datetime
    permissions: Annotated[str, Field(examples=["-rw-r--r--"])]


class FolderView(BaseModel):
    """The entries of a folder, sorted by name."""

    path: Annotated[str, Field(examples=["workspace"])]
    entries: list[EntryView]


ChannelName = Annotated[str, Field(examples=["telegram"])]
Code = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=64, pattern=r"^[A-Za-z0-9]+$"),
]


class ChannelView(BaseModel):
    """A channel, and whether OpenClaw's configuration enables it."""

    channel: ChannelName
    connection_type: ConnectionType
    enabled: bool


class ChannelInfoView(BaseModel):
    """The fields that connecting a channel requires."""

    channel: ChannelName
    connection_type: ConnectionType
    required_fields: dict[str, str] = Field(
        description="A description of each field.",
        examples=[{"token": "The bot's token, from @BotFather."}],
    )

    @classmethod
    def from_channel(cls, channel: Channel) -> Self:
        return cls(
            channel=channel.name,
            connection_type=channel.connection_type,
            required_fields={field.name: field.description for field in channel.required},
        )


class ChannelConnecting(BaseModel):
    """A channel's credentials; OpenClaw keeps those that it already has."""

    config: Overrides = Field(
        description="The channel's required fields, and any other of OpenClaw's settings for it: "
        "`snake_case` names become OpenClaw's `camelCase` ones. An unknown sender of a private "
        "message gets a pairing code unless `dm_policy` says otherwise.",
        examples=[{"token": "123456:ABC-DEF"}],
    )


class ConnectionView(View):
    """The result of connecting, with a QR code if a person has to scan one."""

    channel: ChannelName
    status: ConnectionStatus
    qr_data: str | None = Field(
        validation_alias="qr",
        description="The QR code as a data URL.",
        examples=["data:image/png;base64,iVBORw0K…"],
    )
    qr_image_base64: str | None = Field(
        validation_alias="qr_base64",
        description="The QR code as a PNG image.",
        examples=["iVBORw0K…"],
    )
    message: str = Field(examples=["telegram is connected."])


class ChannelStatusView(BaseModel):
    """The status of a channel."""

    channel: ChannelName
    enabled: bool
    connected: bool
    details: dict[str, Any] = Field(
        description="`reason`: why it is not connected, if OpenClaw reports it. `account` and "
        "`issues`: what else OpenClaw reports.",
        examples=[{"reason": "Telegram bot token unauthorized", "account": {}, "issues": []}],
    )

    @classmethod
    def from_state(cls, state: ChannelState) -> Self:
        details = {
            "reason": state.reason,
            "account": dict(state.account),
            "issues": [dict(each) for each in state.issues],
        }
        return cls(
            channel=state.channel,
            enabled=state.is_enabled,
            connected=state.is_connected,
            details=details,
        )


class Pairing(BaseModel):
    """The pairing code that an unknown sender got from the agent."""

    code: Code = Field(examples=["ABCD2345"])


class PairingRequestView(View):
    """A person who waits for an approval. At most three wait in a channel, each for an hour."""

    code: str = Field(examples=["ABCD2345"])
    sender: str = Field(description="The messenger's id of the person.", examples=["555"])
    created_at: datetime
    last_seen_at: datetime = Field(description="When the person wrote last.")
    meta: dict[str, str] = Field(
        description="What else OpenClaw keeps about the person.",
        examples=[{"username": "ada", "accountId": "default"}],
    )


class PairingView(BaseModel):
    """A sender who is approved."""

    channel: ChannelName
    code: str = Field(examples=["ABCD2345"])
    status: Literal["paired"]
    output: str = Field(
        description="OpenClaw's output.", examples=["Approved telegram sender 555."]
    )


VARIABLES_MAX = 64
SECRET_MAX = 16 * 1024

Slug = Annotated[
    str,
    StringConstraints(
        max_length=256,
        pattern=(
            r"^(@[A-Za-z0-9][A-Za-z0-9._-]*/|skills-sh:[A-Za-z0-9-]+/[A-Za-z0-9._-]+/)?"
            r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$"
        ),
    ),
]
Variable = Annotated[str, StringConstraints(max_length=128, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Value = Annotated[str, StringConstraints(max_length=SECRET_MAX, pattern=r"^[^\x00]*$")]
NonEmptyValue = Annotated[Value, StringConstraints(min_length=1)]
Secret = Annotated[Value, StringConstraints(strip_whitespace=True)]


class SkillQuery(BaseModel):
    """The skills to list."""

    eligible_only: bool = Field(False, description="Only those that the agent can use now.")


class SkillView(View):
    """A skill; `ready` if it is enabled and has all that it requires."""

    name: str = Field(examples=["weather"])
    description: str = Field(examples=["Says how the weather is."])
    source: str = Field(examples=["openclaw-bundled", "openclaw-workspace"])
    ready: bool = Field(validation_alias="is_ready")


class SkillDetailsView(SkillView):
    """A skill and its path in the sandbox."""

    path: str = Field(examples=["/data/.openclaw/workspace/skills/weather/SKILL.md"])


class SkillInstallation(BaseModel):
    """A skill to install from ClawHub."""

    slug: Slug = Field(
        description="`slug`, `@owner/slug` or `skills-sh:owner/repository/slug`.",
        examples=["weather", "@steipete/weather"],
    )
    env: dict[Variable, NonEmptyValue] | None = Field(
        None,
        max_length=VARIABLES_MAX,
        description="Environment variables for the skill, by name.",
        examples=[{"PAGER_KEY": "…"}],
    )


class SkillInstallationView(BaseModel):
    """The result of an installation, with the names of variables, never their values."""

    skill: str = Field(examples=["weather"])
    status: Literal["installed", "installed_missing_env"]
    output: str = Field(description="OpenClaw's output.", examples=["Installed weather@1.0.0"])
    env_applied: list[str] = Field(examples=[["WEATHER_KEY"]])
    required_env: list[str] = Field(examples=[["WEATHER_KEY"]])
    message: str = Field(examples=["Installed weather@1.0.0."])

    @classmethod
    def from_installation(cls, installation: Installation) -> Self:
        status = "installed_missing_env" if installation.missing_env else "installed"
        return cls(status=status, **vars(installation))


class SkillChange(BaseModel):
    """Settings of a skill, merged with its present ones; null or an empty text removes one."""

    # The validator below, as far as JSON Schema can express it.
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    enabled: StrictBool | None = None
    apiKey: Secret | None = Field(  # noqa: N815 - OpenClaw's name
        None, description="The value of the skill's one main variable.", examples=["sk-…"]
    )
    env: dict[Variable, Value | None] | None = Field(
        None,
        max_length=VARIABLES_MAX,
        description="Environment variables for the skill, by name.",
        examples=[{"PAGER_KEY": "…", "PAGER_ROOM": None}],
    )
    config: Overrides | None = Field(
        None, description="The skill's own settings.", examples=[{"units": "metric"}]
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("Name at least one of enabled, apiKey, env and config")
        return self

    @property
    def change(self) -> dict[str, Any]:
        """The members that are set, as a merge patch."""
        patch = self.model_dump(exclude_unset=True)
        if patch.get("env"):
            patch["env"] = {name: value or None for name, value in patch["env"].items()}
        if patch.get("apiKey") == "":
            patch["apiKey"] = None
        return patch
