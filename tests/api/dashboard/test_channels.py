"""An instance's channels in the dashboard: connected, scanned, paired and disconnected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.openclaw.channel_table import CHANNELS
from chowder_local.openclaw.channels import APPROVE
from tests.api.dashboard.conftest import Elements
from tests.api.test_channels import REFUSED, UP, becomes, has, patches
from tests.scripted.gateway import ok

if TYPE_CHECKING:
    from tests.api.dashboard.conftest import Visitor

PNG = "data:image/png;base64,iVBORw0KGgo="
NEXT = {"connected": False, "qrDataUrl": f"{PNG[:-1]}A", "message": "Scan the latest code."}
"""What is said of a code that takes another's place."""
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
async def path(visitor: Visitor) -> str:
    instance = await visitor.http.world.created()
    has(visitor.http.world)
    becomes(visitor.http.world, "telegram", {})
    return f"/instances/{instance.id}/channels"


def scannable(visitor: Visitor, *waits: dict[str, Any]) -> None:
    """From now on WhatsApp has a code, and then these answers for who waits for the scan."""
    world = visitor.http.world
    has(world, whatsapp={"enabled": True})
    becomes(world, "whatsapp", {"accountId": "default", "linked": False, "running": False})
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": PNG, "message": "Scan this QR in WhatsApp."}),
        "web.login.wait": [ok(each) for each in waits],
    }


async def listed_with(visitor: Visitor, path: str, words: str) -> str:
    """The list, once that is in it."""
    html = ""
    async with asyncio.timeout(10):
        while words not in html:
            html = (await visitor.get(f"{path}/list")).text
    return html


def watched(html: str) -> str:
    """Where a page looks next."""
    (watching,) = [each for _, each in Elements(html).found if each.get("id") == "watching"]
    return watching["hx-get"] or ""


async def test_each_channel_has_exactly_the_fields_of_the_contract(
    visitor: Visitor, path: str
) -> None:
    page = (await visitor.get(path)).text
    assert f'hx-get="{path}/list"' in page
    elements = Elements((await visitor.get(f"{path}/list")).text)
    for channel in CHANNELS.values():
        for field in channel.required:
            (shown,) = elements.all("input", id=f"{channel.name}-{field.name}", name=field.name)
            assert shown["type"] == ("password" if field.is_secret else "text")
            assert "required" in shown
            assert not shown["value"]
    forms = [each["hx-post"] or "" for each in elements.all("form")]
    for name in CHANNELS:
        assert forms.count(f"{path}/{name}/connect") == 1
    assert len(elements.all("input", type="password")) == sum(
        field.is_secret for channel in CHANNELS.values() for field in channel.required
    )


async def test_a_channel_is_connected_and_its_token_is_not_shown_again(
    visitor: Visitor, path: str
) -> None:
    becomes(visitor.http.world, "telegram", UP)
    answer = await visitor.sent(f"{path}/telegram/connect", {"token": "123:hush"})
    assert answer.status_code == 200, answer.text
    assert "telegram is connected." in answer.text
    (change,) = patches(visitor.http.world)
    assert change["channels"]["telegram"]["botToken"] == "123:hush"
    has(visitor.http.world, telegram={"botToken": "123:hush", "enabled": True})
    for html in (answer.text, (await visitor.get(f"{path}/list")).text):
        assert "hush" not in html
    (field,) = Elements((await visitor.get(f"{path}/list")).text).all("input", id="telegram-token")
    assert "required" not in field


async def test_why_it_is_not_connected_is_told_in_openclaws_words(
    visitor: Visitor, path: str
) -> None:
    has(visitor.http.world, telegram={"enabled": True})
    becomes(visitor.http.world, "telegram", REFUSED | {"lastError": f"unauthorized {HOSTILE}"})
    answer = await visitor.sent(f"{path}/telegram/connect", {"token": "1:x"})
    assert answer.status_code == 400
    assert "<strong>Not connected.</strong>" in answer.text
    for html in (answer.text, (await visitor.get(f"{path}/list")).text):
        assert "unauthorized" in html
        assert "<script>" not in html


async def test_what_is_missing_is_told(visitor: Visitor, path: str) -> None:
    answer = await visitor.sent(f"{path}/slack/connect", {"bot_token": "x"})
    assert answer.status_code == 422
    assert "app_token: Field required" in answer.text


async def test_a_code_is_a_picture_until_it_is_scanned(visitor: Visitor, path: str) -> None:
    scannable(visitor, NEXT, {"connected": True})
    answer = await visitor.sent(f"{path}/whatsapp/connect")
    assert answer.status_code == 200, answer.text
    (picture,) = Elements(answer.text).all("img")
    assert picture["src"] in {PNG, NEXT["qrDataUrl"]}
    assert "waits for the code to be scanned" in answer.text
    becomes(visitor.http.world, "whatsapp", UP)
    listed = await listed_with(visitor, path, "</span>connected</span>")
    assert not Elements(listed).all("img")


async def test_a_code_that_has_expired_says_so_and_another_can_be_had(
    visitor: Visitor, path: str
) -> None:
    scannable(visitor, NEXT, {"connected": False, "message": "The login QR expired."})
    await visitor.sent(f"{path}/whatsapp/connect")
    listed = await listed_with(visitor, path, "The code has expired.")
    assert "The login QR expired." in listed
    assert not Elements(listed).all("img")
    scannable(visitor, NEXT, {"connected": True})
    again = await visitor.sent(f"{path}/whatsapp/connect")
    assert Elements(again.text).all("img")


async def test_only_what_is_another_state_than_the_page_has_is_told(
    visitor: Visitor, path: str
) -> None:
    has(visitor.http.world, telegram={"enabled": True}, line={"enabled": True})
    becomes(visitor.http.world, "telegram", UP)
    where = watched((await visitor.get(f"{path}/list")).text)
    assert (await visitor.get(where)).status_code == 204
    becomes(visitor.http.world, "telegram", REFUSED)
    told = await visitor.get(where)
    assert "Telegram is not connected." in told.text
    states = [each for _, each in Elements(told.text).found
              if (each.get("id") or "").startswith("state-")]  # fmt: skip
    assert [each["id"] for each in states] == ["state-telegram"]
    # Forms that somebody fills in stay as they are.
    assert not Elements(told.text).all("form")
    assert (await visitor.get(watched(told.text))).status_code == 204


async def test_a_sender_is_let_in_by_code(visitor: Visitor, path: str) -> None:
    programs = visitor.http.world.programs
    programs.answers[APPROVE] = {"status": 0, "output": "Approved telegram sender 555."}
    answer = await visitor.sent(f"{path}/telegram/pair", {"code": " abcd2345 "})
    assert answer.status_code == 200, answer.text
    assert "Approved telegram sender 555." in answer.text
    assert programs.called(APPROVE) == [{"channel": "telegram", "code": "abcd2345"}]
    said = 'Reason: No pending pairing request found for code "X".'
    programs.answers[APPROVE] = {"status": 1, "output": said}
    refused = await visitor.sent(f"{path}/telegram/pair", {"code": "X"})
    assert refused.status_code == 404
    assert "Not paired." in refused.text
    assert (await visitor.sent(f"{path}/telegram/pair", {"code": "a b"})).status_code == 422


async def test_disconnecting_asks_first_and_keeps_the_credentials(
    visitor: Visitor, path: str
) -> None:
    has(visitor.http.world, telegram={"enabled": True})
    asked = await visitor.get(f"{path}/telegram/disconnect", HX_Request="true")
    assert "Disconnect Telegram?" in asked.text
    assert patches(visitor.http.world) == []
    answer = await visitor.sent(f"{path}/telegram/disconnect")
    assert "Telegram is switched off." in answer.text
    assert patches(visitor.http.world) == [{"channels": {"telegram": {"enabled": False}}}]


async def test_an_unknown_channel_is_not_there(visitor: Visitor, path: str) -> None:
    for answer in (
        await visitor.sent(f"{path}/pigeon/connect"),
        await visitor.sent(f"{path}/pigeon/pair", {"code": "X"}),
        await visitor.sent(f"{path}/pigeon/disconnect"),
        await visitor.get(f"{path}/pigeon/disconnect", HX_Request="true"),
    ):
        assert answer.status_code == 404


TABS = ("channels", "skills", "config", "skills/one?name=weather")
PARTS = {"channels": "channels/list", "skills": "skills/list", "config": "config/editor"}


WHAT_TO_DO = [
    (InstanceStatus.STOPPED, "It is stopped, and"),
    (InstanceStatus.PROVISIONING, "It is being provisioned."),
    (InstanceStatus.ERROR, "It does not run"),
    (InstanceStatus.TERMINATED, "It does not run"),
]


async def test_what_to_do_is_said_where_nobody_can_be_asked(visitor: Visitor) -> None:
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
                # To htmx: do not ask again by yourself.
                assert part.status_code == 286, (status, tab)
                assert f"Instance is {status}" in part.text, (status, tab)
                assert (start in part.text) is is_stopped, (status, tab)


async def test_an_agent_that_does_not_answer_is_asked_again_by_a_click(visitor: Visitor) -> None:
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


async def test_nothing_is_done_to_one_that_is_stopped(visitor: Visitor) -> None:
    instance = await visitor.http.world.placed(InstanceStatus.STOPPED)
    for action in ACTIONS:
        answer = await visitor.sent(f"/instances/{instance.id}/{action}", {"name": "x"})
        assert answer.status_code == 409, action
        assert "Instance is stopped" in answer.text, action
