"""The messengers that an agent can use, and the fields that each requires."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import RELAY_HOSTNAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class ConnectionType(StrEnum):
    """How a channel is connected: with credentials, or by a person who scans a QR code."""

    CREDENTIALS = "token"
    INTERACTIVE = "interactive"


@dataclass(frozen=True)
class Field:
    """A required field of a channel; `key` is OpenClaw's name for it if that differs."""

    name: str
    description: str
    key: str = ""
    alternatives: tuple[tuple[str, ...], ...] = ()
    """Groups of other fields; each group replaces this field."""
    is_secret: bool = False
    generate: Callable[[], str] | None = None
    """Makes a value if the client gives none."""

    @property
    def openclaw_key(self) -> str:
        """The key of its value in the channel's section of the configuration."""
        return self.key or camel_case(self.name)


@dataclass(frozen=True)
class Channel:
    name: str
    required: tuple[Field, ...]
    connection_type: ConnectionType = ConnectionType.CREDENTIALS
    dm_policy: tuple[str, ...] = ("dmPolicy",)
    """The path of the setting that says who may write to the agent."""
    also_required: str | None = None
    """A field that OpenClaw also needs before it connects, for error messages."""
    is_checked: bool = True
    """Whether OpenClaw uses the credentials when it connects, so that wrong ones are noticed."""
    reconnects: bool = True
    """Whether OpenClaw connects again by itself, within seconds."""
    caches_approvals: bool = False
    """Whether OpenClaw refuses an approved person for half a minute, unless it connects again."""
    has_fixed_hosts: bool = False
    """Whether the sandbox has to divert OpenClaw's calls to the local messenger."""


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
        reconnects=False,
        has_fixed_hosts=True,
    ),
    Channel(
        "slack",
        (
            Field("bot_token", "The bot's OAuth token (xoxb-…).", is_secret=True),
            Field(
                "app_token",
                "The app-level token (xapp-…) with which Socket Mode connects.",
                alternatives=(("signing_secret",),),
                is_secret=True,
            ),
        ),
        reconnects=False,
        has_fixed_hosts=True,
    ),
    Channel("whatsapp", (), ConnectionType.INTERACTIVE, has_fixed_hosts=True),
    Channel(
        "googlechat",
        (
            Field("audience_type", "What the audience is: app-url or project-number."),
            Field("audience", "The app's webhook URL, or the number of its Google Cloud project."),
        ),
        also_required="service_account, the service account's key as JSON",
        is_checked=False,
        has_fixed_hosts=True,
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
                alternatives=(("user_id", "password"),),
                is_secret=True,
            ),
        ),
        dm_policy=("dm", "policy"),
        caches_approvals=True,
    ),
    Channel(
        "msteams",
        (
            Field("app_id", "The bot's application (client) id in Entra."),
            Field(
                "app_password",
                "The application's client secret.",
                alternatives=(("certificate_path",), ("use_managed_identity",)),
                is_secret=True,
            ),
        ),
        also_required="tenant_id, the directory (tenant) id in Entra",
        is_checked=False,
        has_fixed_hosts=True,
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
        (
            Field(
                "private_key",
                "The bot's private key, as nsec… or in hex; one is generated if it is left out.",
                is_secret=True,
                generate=lambda: secrets.token_hex(32),
            ),
        ),
        reconnects=False,
    ),
    Channel(
        "line",
        (
            Field(
                "channel_access_token",
                "The channel's access token, from the LINE developers' console.",
                alternatives=(("token_file",),),
                is_secret=True,
            ),
            Field(
                "channel_secret",
                "The channel's secret.",
                alternatives=(("secret_file",),),
                is_secret=True,
            ),
        ),
        is_checked=False,
        has_fixed_hosts=True,
    ),
)

CHANNELS: Mapping[str, Channel] = {channel.name: channel for channel in _CHANNELS}


def is_local(configured: Any) -> bool:
    """Whether a channel's configuration connects it to the local messenger."""
    if isinstance(configured, str):
        return configured.startswith(_LOCAL)
    if isinstance(configured, dict):
        return any(map(is_local, configured.values()))
    return isinstance(configured, list) and any(map(is_local, configured))


_LOCAL = (f"http://{RELAY_HOSTNAME}:", f"ws://{RELAY_HOSTNAME}:")


def camel_case(name: str) -> str:
    """A snake_case name in camelCase, as OpenClaw writes it; a camelCase name stays as it is."""
    first, *others = name.split("_")
    return first + "".join(other[:1].upper() + other[1:] for other in others)


def to_openclaw_config(channel: Channel, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A client's fields under OpenClaw's names; fields that the table does not list are kept.

    Slack's `mode` follows from its credentials unless the client gives it.
    """
    keys = {field.name: field.openclaw_key for field in channel.required}
    config = {keys.get(name) or camel_case(name): value for name, value in fields.items()}
    if channel.name == "slack" and config.get("appToken"):
        return {"mode": "socket", **config}
    if channel.name == "slack" and config.get("signingSecret"):
        # With a signing secret, Slack calls the agent, and OpenClaw does not infer that.
        return {"mode": "http", **config}
    return config


def generated_fields(channel: Channel, configured: Mapping[str, Any]) -> dict[str, str]:
    """Values for fields that can be generated and that the configuration lacks, as OpenClaw's."""
    return {
        field.openclaw_key: field.generate()
        for field in channel.required
        if field.generate is not None and not _has(configured, field.openclaw_key)
    }


def missing_fields(channel: Channel, configured: Mapping[str, Any]) -> Sequence[str]:
    """The required fields that a configuration of the channel, in OpenClaw's names, lacks."""
    missing: list[str] = []
    for field in channel.required:
        if _has(configured, field.openclaw_key):
            continue
        # The client wants a group that it has begun. A complete group adds no missing field.
        begun = [
            [name for name in group if not _has(configured, camel_case(name))]
            for group in field.alternatives
            if any(_has(configured, camel_case(name)) for name in group)
        ]
        missing += sorted(begun, key=len)[0] if begun else [field.name]
    return missing


def _has(configured: Mapping[str, Any], key: str) -> bool:
    return configured.get(key) not in (None, "", False)
