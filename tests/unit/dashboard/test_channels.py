"""States and forms of channels, without secrets."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.dashboard.channels import ChannelRow, StatesQuery, StateView, seen
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import ChannelState
from chowder_local.openclaw.config.edits import HIDDEN
from chowder_local.openclaw.qr_login import QrLogin

UP: dict[str, Any] = {
    "accountId": "default",
    "running": True,
    "connected": True,
    "lifecycle": "ready",
}
PNG = "data:image/png;base64,iVBORw0KGgo="


def row(
    channel: str = "telegram",
    /,
    *,
    is_enabled: bool = True,
    scan: QrLogin | None = None,
    written: dict[str, Any] | None = None,
    **account: Any,
) -> ChannelRow:
    state = ChannelState(channel, is_enabled, written or {}, account)
    return ChannelRow.from_state(CHANNELS[channel], state, scan)


def view(channel: str = "telegram", /, **options: Any) -> StateView:
    return row(channel, **options).view


@pytest.mark.parametrize(
    ("account", "status", "words"),
    [
        (UP, "running", "connected"),
        (UP | {"connected": False, "lifecycle": "starting"}, "provisioning", "connecting"),
        (UP | {"connected": False, "lastError": "no"}, "provisioning", "trying again"),
        ({"terminalDisconnect": True, "lastError": "no"}, "error", "not connected"),
        ({"configured": False, "lifecycle": "stopped"}, "error", "not connected"),
        ({}, "error", "not connected"),
        ({"linked": False, "running": False}, "stopped", "not linked"),
    ],
)
def test_each_state_has_a_text_and_a_style(
    account: dict[str, Any], status: str, words: str
) -> None:
    shown = view(**account)
    assert (shown.status, shown.text) == (status, words)
    assert (shown.reason is not None) is (status in {"error", "provisioning"})


def test_a_disabled_channel_differs_from_one_never_set_up() -> None:
    assert view(is_enabled=False).text == "not set up"
    assert view(is_enabled=False, written={"botToken": HIDDEN}).text == "switched off"
    assert StateView.from_state(None, None).text == "not set up"


def test_a_code_is_shown_while_it_can_be_scanned() -> None:
    waiting = view("whatsapp", scan=QrLogin(PNG, "Scan."), linked=False)
    assert (waiting.qr, waiting.scan, waiting.text) == (PNG, "Scan.", "waits for a scan")
    assert waiting.is_changing
    void = view("whatsapp", scan=QrLogin(PNG, "Expired.", is_over=True), linked=False)
    assert (void.qr, void.is_scan_over, void.text) == (None, True, "not scanned")
    scanned = view("whatsapp", scan=QrLogin(PNG, "Scan."), **UP)
    assert (scanned.qr, scanned.scan, scanned.text) == (None, None, "connected")


@pytest.mark.parametrize(
    "qr",
    [
        "https://elsewhere.example/qr.png",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'data:image/png;base64,AAAA"><script>',
        "data:text/html;base64,AAAA",
        "javascript:alert(1)",
        "",
    ],
)
def test_only_png_images_are_shown_as_a_code(qr: str) -> None:
    shown = view("whatsapp", scan=QrLogin(qr, "Scan."), linked=False)
    assert (shown.qr, shown.scan) == (None, "Scan.")


def test_no_secret_field_has_a_value() -> None:
    assert [(each.name, each.is_secret) for each in row("mattermost").questions] == [
        ("base_url", False),
        ("bot_token", True),
    ]
    configured = {"baseUrl": "https://chat.test", "botToken": "shown-by-mistake"}
    url, token = row("mattermost", written=configured).questions
    assert (url.value, url.is_known, url.label) == ("https://chat.test", True, "Base URL")
    assert (token.value, token.is_known) == ("", True)
    (account,) = row("signal", written={"account": HIDDEN}).questions
    assert (account.value, account.is_known) == ("", True)


def test_every_field_named_like_a_secret_is_secret() -> None:
    for channel in CHANNELS.values():
        for field in channel.required:
            is_named_so = any(word in field.name for word in ("token", "secret", "password", "key"))
            assert field.is_secret == is_named_so, f"{channel.name}: {field.name}"


def test_an_alternative_setting_makes_a_field_known() -> None:
    _, token = row("matrix", written={"homeserver": "x", "userId": "u", "password": HIDDEN}
                    ).questions  # fmt: skip
    assert token.is_known
    assert not row("matrix", written={"homeserver": "x"}).is_known


def test_the_account_is_shown() -> None:
    assert view(**UP, bot={"username": "the_bot"}).facts == (
        ("Account", "default"),
        ("Name", "the_bot"),
    )
    assert view(accountId=5, name=["?"]).facts == ()
    assert view(is_enabled=False, accountId="default").facts == ()


def test_the_states_on_a_page_are_encoded_and_parsed() -> None:
    one, other = row(**UP), row("line", is_enabled=False)
    assert StatesQuery(seen=seen([one, other])).digests == {
        "telegram": one.view.digest,
        "line": other.view.digest,
    }
    assert one.view.digest == view(**UP).digest
    assert one.view.digest != view(**UP, name="New").digest
    assert one.view.digest != view(lastError="\ud800", running=True).digest


def test_channels_have_their_proper_names() -> None:
    titles = {ChannelRow.from_state(each, None, None).title for each in CHANNELS.values()}
    assert {"WhatsApp", "LINE", "Telegram", "Microsoft Teams"} <= titles
