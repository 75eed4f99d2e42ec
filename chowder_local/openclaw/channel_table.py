"""The messengers that an agent is reached by, and what each wants to know (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ConnectionType(StrEnum):
    """How a channel is connected: with credentials, or by a person with a telephone."""

    CREDENTIALS = "token"
    INTERACTIVE = "interactive"


@dataclass(frozen=True)
class Field:
    """Something that connecting takes; `key` is OpenClaw's name of it."""

    name: str
    description: str
    key: str = ""
    instead: tuple[tuple[str, ...], ...] = ()
    """Groups of other fields, each of which makes this one unnecessary."""
    is_secret: bool = False

    @property
    def openclaw_key(self) -> str:
        """Where its value goes, below the channel's own part of the configuration."""
        return self.key or camel_case(self.name)


@dataclass(frozen=True)
class Channel:
    name: str
    required: tuple[Field, ...]
    connection_type: ConnectionType = ConnectionType.CREDENTIALS
    dm_policy: tuple[str, ...] = ("dmPolicy",)
    """Where its configuration says who may write to the agent."""
    also: str | None = None
    """What OpenClaw wants to know besides before it connects."""


_CHANNELS = (
    Channel(
        "telegram",
        (
            Field(
                "token",
                "The bot's token, from @BotFather.",
                "botToken",
                (("token_file",),),
                is_secret=True,
            ),
        ),
    ),
    Channel(
        "discord",
        (Field("token", "The bot's token, from Discord's developer portal.", is_secret=True),),
    ),
    Channel(
        "slack",
        (
            Field("bot_token", "The bot's OAuth token (xoxb-…).", is_secret=True),
            Field(
                "app_token",
                "The app-level token (xapp-…) with which Socket Mode connects.",
                instead=(("signing_secret",),),
                is_secret=True,
            ),
        ),
    ),
    Channel("whatsapp", (), ConnectionType.INTERACTIVE),
    Channel(
        "googlechat",
        (
            Field("audience_type", "What the audience is: app-url or project-number."),
            Field("audience", "The app's webhook URL, or the number of its Google Cloud project."),
        ),
        also="service_account, the service account's key as JSON",
    ),
    Channel(
        "signal",
        (Field("account", "The bot's telephone number, as +15550123456."),),
    ),
    Channel(
        "matrix",
        (
            Field("homeserver", "The homeserver's URL."),
            Field(
                "access_token",
                "The bot's access token; or give user_id and password instead.",
                instead=(("user_id", "password"),),
                is_secret=True,
            ),
        ),
        dm_policy=("dm", "policy"),
    ),
    Channel(
        "msteams",
        (
            Field("app_id", "The bot's application (client) id in Entra."),
            Field(
                "app_password",
                "The application's client secret.",
                instead=(("certificate_path",), ("use_managed_identity",)),
                is_secret=True,
            ),
        ),
        also="tenant_id, the directory (tenant) id in Entra",
    ),
    Channel(
        "mattermost",
        (
            Field("base_url", "The Mattermost server's URL."),
            Field("bot_token", "The bot account's access token.", is_secret=True),
        ),
    ),
    Channel(
        "nostr",
        (Field("private_key", "The bot's private key, as nsec… or in hex.", is_secret=True),),
    ),
    Channel(
        "line",
        (
            Field(
                "channel_access_token",
                "The channel's access token, from the LINE developers' console.",
                instead=(("token_file",),),
                is_secret=True,
            ),
            Field(
                "channel_secret",
                "The channel's secret.",
                instead=(("secret_file",),),
                is_secret=True,
            ),
        ),
    ),
)

CHANNELS: Mapping[str, Channel] = {channel.name: channel for channel in _CHANNELS}


def camel_case(name: str) -> str:
    """OpenClaw's way of writing a name; one that it writes itself stays as it is."""
    first, *others = name.split("_")
    return first + "".join(other[:1].upper() + other[1:] for other in others)


def to_openclaw_config(channel: Channel, given: Mapping[str, Any]) -> dict[str, Any]:
    """A client's fields as OpenClaw names them; those that the table does not have, too."""
    known = {field.name: field.openclaw_key for field in channel.required}
    return {known.get(name) or camel_case(name): value for name, value in given.items()}


def missing_fields(channel: Channel, configured: Mapping[str, Any]) -> Sequence[str]:
    """The fields that a configuration of the channel, in OpenClaw's names, still lacks."""
    lacking: list[str] = []
    for field in channel.required:
        if _has(configured, field.openclaw_key):
            continue
        # A group that was begun is what the client wants; a whole one leaves nothing to name.
        begun = [
            [name for name in group if not _has(configured, camel_case(name))]
            for group in field.instead
            if any(_has(configured, camel_case(name)) for name in group)
        ]
        lacking += sorted(begun, key=len)[0] if begun else [field.name]
    return lacking


def _has(configured: Mapping[str, Any], key: str) -> bool:
    return configured.get(key) not in (None, "", False)
