"""What the page says of a channel: never more than it may, and always something."""

from __future__ import annotations

from typing import Any

import pytest

from chowder_local.dashboard.channels import ChannelRow, Seen, Standing, seen
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
    return ChannelRow.of(CHANNELS[channel], state, scan)


def standing(channel: str = "telegram", /, **options: Any) -> Standing:
    return row(channel, **options).standing


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
def test_a_state_has_a_word_and_a_look(account: dict[str, Any], status: str, words: str) -> None:
    found = standing(**account)
    assert (found.status, found.text) == (status, words)
    assert (found.reason is not None) is (status in {"error", "provisioning"})


def test_what_is_switched_off_is_told_from_what_was_never_set_up() -> None:
    assert standing(is_enabled=False).text == "not set up"
    assert standing(is_enabled=False, written={"botToken": HIDDEN}).text == "switched off"
    assert Standing.of(None, None).text == "not set up"


def test_a_code_is_shown_while_it_can_be_scanned() -> None:
    waiting = standing("whatsapp", scan=QrLogin(PNG, "Scan."), linked=False)
    assert (waiting.qr, waiting.scan, waiting.text) == (PNG, "Scan.", "waits for a scan")
    assert waiting.is_changing
    void = standing("whatsapp", scan=QrLogin(PNG, "Expired.", is_over=True), linked=False)
    assert (void.qr, void.is_scan_over, void.text) == (None, True, "not scanned")
    scanned = standing("whatsapp", scan=QrLogin(PNG, "Scan."), **UP)
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
def test_what_is_no_picture_is_not_shown_as_one(qr: str) -> None:
    found = standing("whatsapp", scan=QrLogin(qr, "Scan."), linked=False)
    assert (found.qr, found.scan) == (None, "Scan.")


def test_the_fields_are_those_of_the_contract_and_no_secret_has_a_value() -> None:
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


def test_every_field_that_is_named_like_a_secret_is_one() -> None:
    for channel in CHANNELS.values():
        for field in channel.required:
            is_named_so = any(word in field.name for word in ("token", "secret", "password", "key"))
            assert field.is_secret == is_named_so, f"{channel.name}: {field.name}"


def test_what_may_stand_instead_makes_a_field_known() -> None:
    _, token = row("matrix", written={"homeserver": "x", "userId": "u", "password": HIDDEN}
                    ).questions  # fmt: skip
    assert token.is_known
    assert not row("matrix", written={"homeserver": "x"}).is_known


def test_the_account_is_named() -> None:
    assert standing(**UP, bot={"username": "the_bot"}).facts == (
        ("Account", "default"),
        ("Name", "the_bot"),
    )
    assert standing(accountId=5, name=["?"]).facts == ()
    assert standing(is_enabled=False, accountId="default").facts == ()


def test_a_page_says_what_it_shows() -> None:
    one, other = row(**UP), row("line", is_enabled=False)
    assert Seen(seen=seen([one, other])).digests == {
        "telegram": one.standing.digest,
        "line": other.standing.digest,
    }
    assert one.standing.digest == standing(**UP).digest
    assert one.standing.digest != standing(**UP, name="New").digest
    assert one.standing.digest != standing(lastError="\ud800", running=True).digest


def test_messengers_have_their_own_names() -> None:
    titles = {ChannelRow.of(each, None, None).title for each in CHANNELS.values()}
    assert {"WhatsApp", "LINE", "Telegram", "Microsoft Teams"} <= titles
