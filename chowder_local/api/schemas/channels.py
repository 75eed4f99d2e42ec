"""Bodies: the channels of an agent, which connect it to messengers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints

from chowder_local.api.schemas.fields import Overrides, View
from chowder_local.openclaw.channel_table import ConnectionType
from chowder_local.openclaw.channels import ConnectionStatus

if TYPE_CHECKING:
    from chowder_local.openclaw.channel_table import Channel
    from chowder_local.openclaw.channels import ChannelState

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
