"""An instance's channels: connecting, scanning, pairing and disconnecting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import APPROVE
from tests.api.dashboard.conftest import Elements
from tests.api.test_channels import REFUSED, UP, patches, set_config, set_states
from tests.scripted.gateway import ok

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

PNG = "data:image/png;base64,iVBORw0KGgo="
NEXT = {"connected": False, "qrDataUrl": f"{PNG[:-1]}A", "message": "Scan the latest code."}
"""OpenClaw's answer with a new code that replaces the old one."""


@pytest.fixture
async def path(visitor: Visitor) -> str:
    instance = await visitor.http.world.created()
    set_config(visitor.http.world)
    set_states(visitor.http.world, "telegram", {})
    return f"/instances/{instance.id}/channels"


def scannable(visitor: Visitor, *waits: dict[str, Any]) -> None:
    """Gives WhatsApp a code, and these answers to calls that wait for the scan."""
    world = visitor.http.world
    set_config(world, whatsapp={"enabled": True})
    set_states(world, "whatsapp", {"accountId": "default", "linked": False, "running": False})
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": PNG, "message": "Scan this QR in WhatsApp."}),
        "web.login.wait": [ok(each) for each in waits],
    }


async def listed_with(visitor: Visitor, path: str, words: str) -> str:
    """Waits until the list contains the text, and returns the list."""
    html = ""
    async with asyncio.timeout(10):
        while words not in html:
            html = (await visitor.get(f"{path}/list")).text
    return html


def watched(html: str) -> str:
    """The address that the page polls next."""
    (watching,) = [each for _, each in Elements(html).tags if each.get("id") == "watching"]
    return watching["hx-get"] or ""


async def test_each_channel_has_exactly_the_fields_of_the_contract(
    visitor: Visitor, path: str
) -> None:
    page = (await visitor.get(path)).text
    assert f'hx-get="{path}/list"' in page
    elements = Elements((await visitor.get(f"{path}/list")).text)
    for channel in CHANNELS.values():
        for field in channel.required:
            (field_input,) = elements.all(
                "input", id=f"{channel.name}-{field.name}", name=field.name
            )
            assert field_input["type"] == ("password" if field.is_secret else "text")
            assert "required" in field_input
            assert not field_input["value"]
    forms = [each["hx-post"] or "" for each in elements.all("form")]
    for name in CHANNELS:
        assert forms.count(f"{path}/{name}/connect") == 1
    assert len(elements.all("input", type="password")) == sum(
        field.is_secret for channel in CHANNELS.values() for field in channel.required
    )


async def test_a_channel_is_connected_and_its_token_is_not_shown_again(
    visitor: Visitor, path: str
) -> None:
    set_states(visitor.http.world, "telegram", UP)
    answer = await visitor.post(f"{path}/telegram/connect", {"token": "123:hush"})
    assert answer.status_code == 200, answer.text
    assert "telegram is connected." in answer.text
    (change,) = patches(visitor.http.world)
    assert change["channels"]["telegram"]["botToken"] == "123:hush"
    set_config(visitor.http.world, telegram={"botToken": "123:hush", "enabled": True})
    for html in (answer.text, (await visitor.get(f"{path}/list")).text):
        assert "hush" not in html
    (field,) = Elements((await visitor.get(f"{path}/list")).text).all("input", id="telegram-token")
    assert "required" not in field


async def test_a_missing_field_is_reported(visitor: Visitor, path: str) -> None:
    answer = await visitor.post(f"{path}/slack/connect", {"bot_token": "x"})
    assert answer.status_code == 422
    assert "app_token: Field required" in answer.text


async def test_a_qr_code_is_shown_until_it_is_scanned(visitor: Visitor, path: str) -> None:
    scannable(visitor, NEXT, {"connected": True})
    answer = await visitor.post(f"{path}/whatsapp/connect")
    assert answer.status_code == 200, answer.text
    (picture,) = Elements(answer.text).all("img")
    assert picture["src"] in {PNG, NEXT["qrDataUrl"]}
    assert "Scan the code to connect WhatsApp." in answer.text
    set_states(visitor.http.world, "whatsapp", UP)
    listed = await listed_with(visitor, path, "</span>connected</span>")
    assert not Elements(listed).all("img")


async def test_an_expired_code_is_reported_and_replaced_on_request(
    visitor: Visitor, path: str
) -> None:
    scannable(visitor, NEXT, {"connected": False, "message": "The login QR expired."})
    await visitor.post(f"{path}/whatsapp/connect")
    listed = await listed_with(visitor, path, "The code has expired.")
    assert "The login QR expired." in listed
    assert not Elements(listed).all("img")
    scannable(visitor, NEXT, {"connected": True})
    again = await visitor.post(f"{path}/whatsapp/connect")
    assert Elements(again.text).all("img")


async def test_polling_returns_only_changed_states(visitor: Visitor, path: str) -> None:
    set_config(visitor.http.world, telegram={"enabled": True}, line={"enabled": True})
    set_states(visitor.http.world, "telegram", UP)
    where = watched((await visitor.get(f"{path}/list")).text)
    assert (await visitor.get(where)).status_code == 204
    set_states(visitor.http.world, "telegram", REFUSED)
    answer = await visitor.get(where)
    assert "Telegram is not connected." in answer.text
    states = [each for _, each in Elements(answer.text).tags
              if (each.get("id") or "").startswith("state-")]  # fmt: skip
    assert [each["id"] for each in states] == ["state-telegram"]
    # Forms that a user may be filling in stay.
    assert not Elements(answer.text).all("form")
    assert (await visitor.get(watched(answer.text))).status_code == 204


async def test_a_sender_is_approved_by_code(visitor: Visitor, path: str) -> None:
    programs = visitor.http.world.programs
    programs.answers[APPROVE] = {"status": 0, "output": "Approved telegram sender 555."}
    answer = await visitor.post(f"{path}/telegram/pair", {"code": " abcd2345 "})
    assert answer.status_code == 200, answer.text
    assert "Approved telegram sender 555." in answer.text
    assert programs.called(APPROVE) == [{"channel": "telegram", "code": "abcd2345"}]
    output = 'Reason: No pending pairing request found for code "X".'
    programs.answers[APPROVE] = {"status": 1, "output": output}
    refused = await visitor.post(f"{path}/telegram/pair", {"code": "X"})
    assert refused.status_code == 404
    assert "Not paired." in refused.text
    assert (await visitor.post(f"{path}/telegram/pair", {"code": "a b"})).status_code == 422


async def test_disconnecting_asks_for_confirmation_and_keeps_the_credentials(
    visitor: Visitor, path: str
) -> None:
    set_config(visitor.http.world, telegram={"enabled": True})
    dialog = await visitor.get(f"{path}/telegram/disconnect", HX_Request="true")
    assert "Disconnect Telegram?" in dialog.text
    assert patches(visitor.http.world) == []
    answer = await visitor.post(f"{path}/telegram/disconnect")
    assert "Telegram is switched off." in answer.text
    assert patches(visitor.http.world) == [{"channels": {"telegram": {"enabled": False}}}]


async def test_an_unknown_channel_is_not_found(visitor: Visitor, path: str) -> None:
    for answer in (
        await visitor.post(f"{path}/pigeon/connect"),
        await visitor.post(f"{path}/pigeon/pair", {"code": "X"}),
        await visitor.post(f"{path}/pigeon/disconnect"),
        await visitor.get(f"{path}/pigeon/disconnect", HX_Request="true"),
    ):
        assert answer.status_code == 404


TABS = ("channels", "skills", "config", "skills/one?name=weather")
PARTS = {"channels": "channels/list", "skills": "skills/list", "config": "config/editor"}


WHAT_TO_DO = [
    (InstanceStatus.STOPPED, "The instance is stopped."),
    (InstanceStatus.PROVISIONING, "The instance is being provisioned."),
    (InstanceStatus.ERROR, "The instance does not run"),
    (InstanceStatus.TERMINATED, "The instance does not run"),
]


async def test_pages_of_an_instance_that_does_not_run_say_what_to_do(visitor: Visitor) -> None:
    for number, (status, words) in enumerate(WHAT_TO_DO):
        instance = await visitor.http.world.placed(status, number)
        start = f'hx-post="/instances/{instance.id}/start"'
        for tab in TABS:
            page = await visitor.get(f"/instances/{instance.id}/{tab}")
            assert page.status_code == 200, (status, tab)
            assert words in page.text, (status, tab)
            is_stopped = status is InstanceStatus.STOPPED
            assert page.text.count(start) == (2 if is_stopped else 0), (status, tab)
            if tab in PARTS:
                part = await visitor.get(f"/instances/{instance.id}/{PARTS[tab]}")
                # The status tells htmx to stop polling.
                assert part.status_code == 286, (status, tab)
                assert f"Instance is {status}" in part.text, (status, tab)
                assert (start in part.text) is is_stopped, (status, tab)


async def test_an_unavailable_agent_can_be_retried(visitor: Visitor) -> None:
    world = visitor.http.world
    instance = await world.created()
    world.gateway.rpc_answers["config.get"] = (503, {"ok": False, "error": {"message": "busy"}})
    world.programs.answers["skills.status"] = {"ok": False, "error": {"message": "busy"}}
    for part in PARTS.values():
        answer = await visitor.get(f"/instances/{instance.id}/{part}")
        assert answer.status_code == 286, part
        assert "busy" in answer.text, part
        assert f'hx-get="/instances/{instance.id}/{part}"' in answer.text


ACTIONS = ["channels/telegram/connect", "channels/telegram/pair", "channels/telegram/disconnect",
"skills", "skills/one", "config", "config/check"]  # fmt: skip


async def test_actions_on_a_stopped_instance_are_refused(visitor: Visitor) -> None:
    instance = await visitor.http.world.placed(InstanceStatus.STOPPED)
    for action in ACTIONS:
        answer = await visitor.post(f"/instances/{instance.id}/{action}", {"name": "x"})
        assert answer.status_code == 409, action
        assert "Instance is stopped" in answer.text, action
