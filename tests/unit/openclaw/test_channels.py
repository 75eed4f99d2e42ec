"""How OpenClaw's report of a channel is read; other tests make the calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import ChannelConnection, ChannelState, ConnectionStatus
from tests.scripted.gateway import ok, refused
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from tests.scripted.world import World

QR = "data:image/png;base64,iVBORw0KGgo="


def state(*issues: dict[str, Any], **account: Any) -> ChannelState:
    return ChannelState("msteams", is_enabled=True, account=account, issues=issues)


def test_the_error_message_precedes_other_reasons() -> None:
    issue = {"message": "Not linked"}
    report = {"lastError": "unauthorized", "stateReason": "stopped", "lifecycle": "blocked"}
    assert state(issue, **report).reason == "unauthorized"
    assert state(issue, **report | {"lastError": None}).reason == "Not linked"
    assert state({}, **report | {"lastError": None}).reason == "stopped"
    assert state(lifecycle="blocked").reason == "blocked"
    assert state(running=True, connected=False).reason is None
    assert state(running=True, connected=True, lastError="once").reason is None


@pytest.mark.parametrize(
    ("account", "is_refused", "has_failed"),
    [
        ({}, False, False),
        ({"configured": True, "lifecycle": "starting"}, False, False),
        ({"configured": False}, True, False),
        ({"terminalDisconnect": True, "lastError": "unauthorized"}, True, True),
        ({"lastError": "ENOTFOUND"}, False, True),
        ({"lifecycle": "recovering"}, False, True),
    ],
)
def test_a_refused_channel_differs_from_one_that_is_retried(
    account: dict[str, Any], is_refused: bool, has_failed: bool
) -> None:
    channel_state = state(**account)
    assert (channel_state.is_refused, channel_state.has_failed) == (is_refused, has_failed)


def test_a_channel_that_was_given_up_is_not_connected_whatever_it_reports() -> None:
    report = {"running": True, "connected": True, "lastError": "invalid_auth"}
    assert state(**report).is_connected
    given_up = state(**report, terminalDisconnect=True)
    assert (given_up.is_connected, given_up.reason) == (False, "invalid_auth")


def test_the_image_alone_is_in_the_data_url() -> None:
    awaiting = ConnectionStatus.AWAITING_SCAN
    assert ChannelConnection("whatsapp", awaiting, "Scan.", QR).qr_base64 == "iVBORw0KGgo="
    assert ChannelConnection("whatsapp", ConnectionStatus.CONNECTED, "Done.").qr_base64 is None


@pytest.mark.parametrize(
    "answer", [ok({"connected": True}), ok({"connected": False}), refused("gone", 503)]
)
async def test_waiting_for_a_scan_ends_with_openclaws_answer(
    world: World, answer: tuple[int, dict[str, Any]]
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": QR, "message": "Scan."}),
        "web.login.wait": answer,
    }
    connection = await world.channels.connect(instance, CHANNELS["whatsapp"], {})
    assert (connection.status, connection.qr) == (ConnectionStatus.AWAITING_SCAN, QR)
    await eventually(lambda: world.gateway.called("web.login.wait") != [], "the scan is awaited")
    assert world.gateway.called("web.login.wait") == [
        {"channel": "whatsapp", "timeoutMs": 20000, "currentQrDataUrl": QR}
    ]


async def test_an_account_of_the_local_messenger_needs_no_scan(world: World) -> None:
    instance = await world.created()
    whatsapp = CHANNELS["whatsapp"]
    connection = await world.channels.connect(instance, whatsapp, {"offline": True})
    assert connection.status is ConnectionStatus.AWAITING_SCAN
    login = world.channels.qr_login(instance, whatsapp)
    assert login is not None
    assert login.qr == connection.qr
    assert world.gateway.called("web.login.start") == []
    credentials = await world.files.text(
        instance.sandbox_id, "credentials/whatsapp-local/creds.json"
    )
    assert json.loads(credentials)["registered"]
    account = {"accountId": "default", "running": True, "connected": True}
    channels = {"channelAccounts": {"whatsapp": [account]}}
    world.gateway.rpc_answers["channels.status"] = ok(channels)
    await eventually(lambda: world.channels.qr_login(instance, whatsapp) is None, "it is linked")
