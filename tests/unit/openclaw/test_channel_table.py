"""The fields of each channel, and their form in OpenClaw's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.openclaw.channel_table import (
    CHANNELS,
    ConnectionType,
    camel_case,
    missing_fields,
    to_openclaw_config,
)

REQUIRED = {
    "telegram": {"token": "botToken"},
    "discord": {"token": "token"},
    "slack": {"bot_token": "botToken", "app_token": "appToken"},
    "whatsapp": {},
    "googlechat": {"audience_type": "audienceType", "audience": "audience"},
    "signal": {"account": "account"},
    "matrix": {"homeserver": "homeserver", "access_token": "accessToken"},
    "msteams": {"app_id": "appId", "app_password": "appPassword"},
    "mattermost": {"base_url": "baseUrl", "bot_token": "botToken"},
    "nostr": {"private_key": "privateKey"},
    "line": {"channel_access_token": "channelAccessToken", "channel_secret": "channelSecret"},
}


def test_every_channel_has_its_fields_by_openclaws_names() -> None:
    required_names = {
        name: {field.name: field.openclaw_key for field in channel.required}
        for name, channel in CHANNELS.items()
    }
    assert required_names == REQUIRED


def test_only_whatsapp_is_interactive() -> None:
    interactive = {
        name
        for name, channel in CHANNELS.items()
        if channel.connection_type is ConnectionType.INTERACTIVE
    }
    assert interactive == {"whatsapp"}


def test_every_field_says_what_it_is() -> None:
    fields = [field for channel in CHANNELS.values() for field in channel.required]
    assert all(field.description.endswith(".") for field in fields)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api_root", "apiRoot"),
        ("apiRoot", "apiRoot"),
        ("dm", "dm"),
        ("group_allow_from", "groupAllowFrom"),
        ("mediaMax_mb", "mediaMaxMb"),
        ("", ""),
    ],
)
def test_names_become_openclaws(name: str, expected: str) -> None:
    assert camel_case(name) == expected


def test_fields_are_mapped_and_others_pass_unchanged() -> None:
    client_fields = {"token": "t", "api_root": "http://bots.test", "network": {"proxy_url": 1}}
    assert to_openclaw_config(CHANNELS["telegram"], client_fields) == {
        "botToken": "t",
        "apiRoot": "http://bots.test",
        "network": {"proxy_url": 1},
    }
    assert to_openclaw_config(CHANNELS["discord"], {"token": "t"}) == {"token": "t"}


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_an_empty_configuration_lacks_all_fields_and_a_full_one_none(name: str) -> None:
    channel = CHANNELS[name]
    assert list(missing_fields(channel, {})) == list(REQUIRED[name])
    assert missing_fields(channel, dict.fromkeys(REQUIRED[name].values(), "x")) == []


@pytest.mark.parametrize(
    ("name", "configured", "lacking"),
    [
        ("telegram", {"botToken": ""}, ["token"]),
        ("telegram", {"botToken": None}, ["token"]),
        ("telegram", {"tokenFile": "/data/token"}, []),
        ("slack", {"botToken": "x", "signingSecret": "y"}, []),
        ("matrix", {"homeserver": "x", "userId": "@a:b", "password": "y"}, []),
        ("matrix", {"homeserver": "x", "userId": "@a:b"}, ["password"]),
        ("matrix", {"password": "y"}, ["homeserver", "user_id"]),
        ("msteams", {"appId": "x", "useManagedIdentity": True}, []),
        ("msteams", {"appId": "x", "useManagedIdentity": False}, ["app_password"]),
        ("line", {"tokenFile": "x", "secretFile": "y"}, []),
    ],
)
def test_some_fields_have_alternatives(
    name: str, configured: dict[str, Any], lacking: list[str]
) -> None:
    assert missing_fields(CHANNELS[name], configured) == lacking


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({"signing_secret": "x"}, "http"),
        ({"app_token": "x"}, "socket"),
        ({"app_token": "x", "signing_secret": "x"}, "socket"),
        ({"signing_secret": "x", "mode": "relay"}, "relay"),
        ({"bot_token": "x"}, None),
    ],
)
def test_slacks_mode_follows_from_its_credentials(fields: dict[str, Any], mode: str | None) -> None:
    assert to_openclaw_config(CHANNELS["slack"], fields).get("mode") == mode
