"""What OpenClaw's words about a channel are taken for; the calls are tried elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import ChannelState, Connection, ConnectionStatus
from tests.scripted.gateway import ok, refused
from tests.scripted.serving import eventually
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

QR = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


def state(*issues: dict[str, Any], **account: Any) -> ChannelState:
    return ChannelState("msteams", is_enabled=True, account=account, issues=issues)


def test_words_about_a_failure_come_first() -> None:
    issue = {"message": "Not linked"}
    told = {"lastError": "unauthorized", "stateReason": "stopped", "lifecycle": "blocked"}
    assert state(issue, **told).reason == "unauthorized"
    assert state(issue, **told | {"lastError": None}).reason == "Not linked"
    assert state({}, **told | {"lastError": None}).reason == "stopped"
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
def test_giving_up_is_another_thing_than_trying_again(
    account: dict[str, Any], is_refused: bool, has_failed: bool
) -> None:
    found = state(**account)
    assert (found.is_refused, found.has_failed) == (is_refused, has_failed)


def test_the_image_alone_is_in_the_data_url() -> None:
    awaiting = ConnectionStatus.AWAITING_SCAN
    assert Connection("whatsapp", awaiting, "Scan.", QR).qr_base64 == "iVBORw0KGgo="
    assert Connection("whatsapp", ConnectionStatus.CONNECTED, "Done.").qr_base64 is None


@pytest.mark.parametrize(
    "answer", [ok({"connected": True}), ok({"connected": False}), refused("gone", 503)]
)
async def test_a_scan_is_awaited_until_there_is_no_more_to_await(
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
