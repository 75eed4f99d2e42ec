"""Channels, without credentials that would reach a messenger's users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.conformance import published
from chowder_local.conformance.drift import answered, refused, rejected, require_status
from chowder_local.conformance.service import every_row

if TYPE_CHECKING:
    from chowder_local.conformance.client import ContractClient
    from chowder_local.conformance.drift import Judge

DIFFERENT = {"nostr", "matrix", "msteams"}
"""Channels whose fields are a difference, with the channel's name as the entry's id."""
WRONG_TOKEN = "1:conformance-no-such-token"  # noqa: S105 - nobody's


def kind(channel: str) -> str:
    return "interactive" if channel == "whatsapp" else "token"


@pytest.mark.read_only
def test_all_channels_are_listed(api: ContractClient, present: str) -> None:
    channels = answered(api.get(f"instances/{present}/channels"))
    found = {each["channel"]: each["connection_type"] for each in channels}
    assert found == {channel: kind(channel) for channel in published.read().channels}
    assert len(channels) == len(found)


@pytest.mark.read_only
def test_the_fields_of_a_channel_need_no_key(
    anyone: ContractClient, present: str, judge: Judge
) -> None:
    with every_row() as row:
        for channel, fields in published.read().channels.items():
            with row(channel):
                info = answered(anyone.get(f"instances/{present}/channels/{channel}"))
                assert (info["channel"], info["connection_type"]) == (channel, kind(channel))
                required = sorted(info["required_fields"])
                if channel in DIFFERENT:
                    judge(channel, required)
                else:
                    assert required == sorted(fields)
                assert all(info["required_fields"].values())


def test_an_unknown_channel_is_not_found(
    api: ContractClient, anyone: ContractClient, agent: str
) -> None:
    path = f"instances/{agent}/channels/pigeon"
    refused(anyone.get(path), 404)
    refused(api.get(f"{path}/status"), 404)
    refused(api.post(f"{path}/connect", json={"config": {"token": "x"}}), 404)
    refused(api.post(f"{path}/pair", json={"code": "ABCD2345"}), 404)
    refused(api.post(f"{path}/disconnect"), 404)


def test_a_missing_field_is_named(api: ContractClient, agent: str) -> None:
    with every_row() as row:
        for channel, fields in published.read().channels.items():
            # Telegram is left out: another test connects it, and a connected channel needs no
            # credentials.
            if channel != "telegram" and channel not in DIFFERENT:
                for field in fields:
                    with row(f"{channel} without {field}"):
                        check_missing_field(api, agent, channel, field)
        # The hosted service's guides say that these fields are required.
        for channel, field in (("matrix", "homeserver"), ("msteams", "app_id")):
            with row(f"{channel} without {field}"):
                check_missing_field(api, agent, channel, field)


def check_missing_field(api: ContractClient, agent: str, channel: str, field: str) -> None:
    fields = set(published.read().channels[channel])
    path = f"instances/{agent}/channels/{channel}/connect"
    answer = api.post(path, json={"config": dict.fromkeys(fields - {field}, "x")})
    require_status(answer, 422)
    assert field in answer.text


def test_an_unconnected_channel_has_that_status(api: ContractClient, agent: str) -> None:
    with every_row() as row:
        for channel in sorted(set(published.read().channels) - {"telegram"}):
            with row(channel):
                status = answered(api.get(f"instances/{agent}/channels/{channel}/status"))
                assert (status["channel"], status["enabled"]) == (channel, False)
                assert status["connected"] is False


@pytest.mark.slow
def test_a_channel_is_connected_and_disconnected(
    api: ContractClient, agent: str, judge: Judge
) -> None:
    check_missing_field(api, agent, "telegram", "token")
    path = f"instances/{agent}/channels/telegram"
    answer = api.post(f"{path}/connect", json={"config": {"token": WRONG_TOKEN}})
    if judge("connect", answer.status_code) != 200:
        # The messenger was asked first, and refuses this token.
        return
    connection = answered(answer)
    assert connection["channel"] == "telegram"
    judge("qr-fields", connection)
    status = answered(api.get(f"{path}/status"))
    assert (status["enabled"], status["connected"]) == (True, False)
    channels = answered(api.get(f"instances/{agent}/channels"))
    assert [each["channel"] for each in channels if each["enabled"]] == ["telegram"]

    answered(api.post(f"{path}/disconnect"))
    assert answered(api.get(f"{path}/status"))["enabled"] is False


# OpenClaw runs its command line for this call, which is slow.
@pytest.mark.slow
def test_an_unknown_pairing_code_is_refused(api: ContractClient, agent: str) -> None:
    rejected(api.post(f"instances/{agent}/channels/telegram/pair", json={"code": "ZZZZ9999"}))
