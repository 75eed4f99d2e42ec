"""Channels, without credentials that would reach a messenger's users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.rows import every_row
from tests.conformance.shapes import (
    CHANNEL,
    CHANNEL_INFO,
    CHANNEL_STATUS,
    CONNECTION,
    answered,
    invalid,
    listed,
    refused,
)

if TYPE_CHECKING:
    from tests.conformance.client import Client

FIELDS: dict[str, set[str]] = {
    "telegram": {"token"},
    "discord": {"token"},
    "slack": {"bot_token", "app_token"},
    "whatsapp": set(),
    "googlechat": {"audience_type", "audience"},
    "signal": {"account"},
    "matrix": {"homeserver", "access_token"},
    "msteams": {"app_id", "app_password"},
    "mattermost": {"base_url", "bot_token"},
    "nostr": {"private_key"},
    "line": {"channel_access_token", "channel_secret"},
}
WRONG_TOKEN = "1:conformance-no-such-token"


def kind(channel: str) -> str:
    return "interactive" if channel == "whatsapp" else "token"


def test_all_channels_are_listed(api: Client, agent: str) -> None:
    channels = listed(api.get(f"instances/{agent}/channels"), CHANNEL)
    found = {each["channel"]: each["connection_type"] for each in channels}
    assert found == {channel: kind(channel) for channel in FIELDS}
    assert len(channels) == len(found)


def test_the_fields_of_a_channel_need_no_key(anyone: Client, creation: dict[str, Any]) -> None:
    with every_row() as row:
        for channel, fields in FIELDS.items():
            with row(channel):
                path = f"instances/{creation['id']}/channels/{channel}"
                info = answered(anyone.get(path), 200, CHANNEL_INFO)
                assert (info["channel"], info["connection_type"]) == (channel, kind(channel))
                assert set(info["required_fields"]) == fields
                assert all(info["required_fields"].values())


def test_an_unknown_channel_is_not_found(api: Client, anyone: Client, agent: str) -> None:
    path = f"instances/{agent}/channels/pigeon"
    refused(anyone.get(path), 404)
    refused(api.get(f"{path}/status"), 404)
    refused(api.post(f"{path}/connect", json={"config": {"token": "x"}}), 404)
    refused(api.post(f"{path}/pair", json={"code": "ABCD2345"}), 404)
    refused(api.post(f"{path}/disconnect"), 404)


def test_a_missing_field_is_named(api: Client, agent: str) -> None:
    with every_row() as row:
        for channel, fields in FIELDS.items():
            # Another test connects telegram, and stored credentials need not be sent again. A key
            # for nostr is generated.
            for field in sorted(fields) if channel not in {"telegram", "nostr"} else ():
                with row(f"{channel} without {field}"):
                    check_missing_field(api, agent, channel, field)


def check_missing_field(api: Client, agent: str, channel: str, field: str) -> None:
    config = dict.fromkeys(FIELDS[channel] - {field}, "x")
    path = f"instances/{agent}/channels/{channel}/connect"
    answer = api.post(path, json={"config": config})
    assert answer.status_code == 422, answer.text
    assert field in answer.text


def test_a_connection_needs_a_config_and_a_pairing_a_code(api: Client, agent: str) -> None:
    telegram = f"instances/{agent}/channels/telegram"
    invalid(api.post(f"{telegram}/connect", json={}), "body", "config")
    invalid(api.post(f"{telegram}/pair", json={}), "body", "code")


def test_an_unconnected_channel_has_that_status(api: Client, agent: str) -> None:
    with every_row() as row:
        for channel in sorted(set(FIELDS) - {"telegram"}):
            with row(channel):
                answer = api.get(f"instances/{agent}/channels/{channel}/status")
                status = answered(answer, 200, CHANNEL_STATUS)
                assert (status["channel"], status["enabled"]) == (channel, False)
                assert status["connected"] is False


@pytest.mark.slow
def test_a_channel_is_connected_and_disconnected(api: Client, agent: str) -> None:
    check_missing_field(api, agent, "telegram", "token")
    path = f"instances/{agent}/channels/telegram"
    answer = api.post(f"{path}/connect", json={"config": {"token": WRONG_TOKEN}})
    if answer.status_code != 200:
        # A service may ask the messenger first, which refuses this token.
        refused(answer, 400, 409, 502)
        return
    assert answered(answer, 200, CONNECTION)["channel"] == "telegram"
    status = answered(api.get(f"{path}/status"), 200, CHANNEL_STATUS)
    assert (status["enabled"], status["connected"]) == (True, False)
    enabled = {
        each["channel"]
        for each in listed(api.get(f"instances/{agent}/channels"), CHANNEL)
        if each["enabled"]
    }
    assert enabled == {"telegram"}

    answered(api.post(f"{path}/disconnect"), 204)
    assert answered(api.get(f"{path}/status"), 200, CHANNEL_STATUS)["enabled"] is False


# OpenClaw runs its command line for this call, which is slow.
@pytest.mark.slow
def test_an_unknown_pairing_code_is_refused(api: Client, agent: str) -> None:
    answer = api.post(f"instances/{agent}/channels/telegram/pair", json={"code": "ZZZZ9999"})
    assert 400 <= answer.status_code < 500, answer.text
