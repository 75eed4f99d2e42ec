"""An instance's channels, skills and configuration in real Chromium; agents are scripted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.openclaw.config.edits import HIDDEN, SCHEMA_FILE
from tests.api.test_channels import REFUSED, UP, set_config, set_states
from tests.api.test_skills import WEATHER, entry, needing
from tests.e2e import qr
from tests.e2e.dashboards import Served, judge_in_all_looks, open_all, refuse, served_in_thread
from tests.e2e.waiting import eventually
from tests.scripted.gateway import ok
from tests.scripted.programs import done

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from chowder_local.core.domain import Instance


HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
UNLINKED = {"accountId": "default", "linked": False, "running": False, "connected": False}
PAGER = needing("pager", "PAGER_KEY", "PAGER_ROOM", missing=("PAGER_KEY",))
SOURCE: dict[str, Any] = {
    "agents": {"defaults": {"thinkingDefault": "low"}},
    "skills": {"entries": {"pager": {"env": {"PAGER_ROOM": HIDDEN}, "apiKey": HIDDEN}}},
}
SCHEMA = {
    "type": "object",
    "properties": {"agents": {"type": "object", "additionalProperties": False,
                              "properties": {"defaults": {"type": "object"}}}},
}  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with served_in_thread(tmp_path) as served:
        served.world.engine.image_files[SCHEMA_FILE] = json.dumps(SCHEMA).encode()
        yield served


@pytest.fixture
def ada(served: Served) -> Instance:
    """An agent with skills and settings, and no channel yet."""
    world = served.world
    hostile = entry("evil", description=HOSTILE * 3, disabled=True, eligible=False)
    world.programs.answers["skills.status"] = done(skills=[WEATHER, PAGER, hostile])
    set_states(world, "telegram", {})
    world.gateway.rpc_answers["config.get"] = ok({"hash": "h", "sourceConfig": SOURCE})
    world.gateway.rpc_answers["config.schema.lookup"] = ok({"reloadKind": "restart"})
    return served.created("Ada")


def opened(page: Page, served: Served, instance: Instance, tab: str) -> None:
    page.goto(f"{served.root_url}/instances/{instance.id}/{tab}")


def look_again(page: Page) -> None:
    """Has a page that looks every few seconds do it now; its clock must be installed."""
    page.clock.fast_forward("00:05")


def test_a_code_on_the_screen_can_be_scanned_until_it_is(
    page: Page, served: Served, ada: Instance
) -> None:
    world = served.world
    page.emulate_media(color_scheme="light")
    set_config(world)
    set_states(world, "whatsapp", UNLINKED)
    waiting = {"connected": False, "message": "Scan the latest code."}
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": qr.data_url("2@first,code=="), "message": "Scan it."}),
        # Another one comes in its place, and that one stays.
        "web.login.wait": ok(waiting | {"qrDataUrl": qr.data_url("2@second,code==")}),
    }
    opened(page, served, ada, "channels")
    page.locator("#open-whatsapp").click()
    # OpenClaw has it switched on from then on.
    set_config(world, whatsapp={"enabled": True})
    page.get_by_role("button", name="Show a QR code for WhatsApp").click()
    page.get_by_role("img", name="QR code that connects WhatsApp").wait_for()
    page.locator("#mark-whatsapp").get_by_text("waits for a scan").wait_for()
    page.locator("#state-whatsapp").scroll_into_view_if_needed()
    eventually(lambda: qr.read(page) == ["2@second,code=="], "the latest code is to be seen")
    page.emulate_media(color_scheme="dark")
    assert qr.read(page) == ["2@second,code=="]
    world.gateway.rpc_answers["web.login.wait"] = ok({"connected": True, "message": "Linked!"})
    set_states(world, "whatsapp", UP)
    page.locator("#mark-whatsapp").get_by_text("connected", exact=True).wait_for()
    page.get_by_role("img", name="QR code").wait_for(state="detached")
    page.locator("#announcement").get_by_text("WhatsApp is connected.").wait_for(state="attached")
    # Without a reload, what can be done with it now is there.
    page.get_by_role("button", name="Disconnect WhatsApp").wait_for()


def test_a_code_that_has_expired_is_told_and_made_anew(
    page: Page, served: Served, ada: Instance
) -> None:
    world = served.world
    set_config(world, whatsapp={"enabled": True})
    set_states(world, "whatsapp", UNLINKED)
    void = ok({"connected": False, "message": "The login QR expired."})
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": qr.data_url("2@first"), "message": "Scan it."}),
        "web.login.wait": void,
    }
    opened(page, served, ada, "channels")
    page.get_by_role("button", name="Show a QR code for WhatsApp").click()
    page.get_by_text("The code has expired.").wait_for()
    world.gateway.rpc_answers["web.login.wait"] = ok({"qrDataUrl": qr.data_url("2@second")})
    page.get_by_role("button", name="Show a QR code for WhatsApp").click()
    page.get_by_role("img", name="QR code").wait_for()
    # As long as one is there, no other is offered.
    page.get_by_role("button", name="Show a QR code for WhatsApp").wait_for(state="hidden")
    world.gateway.rpc_answers["web.login.wait"] = void
    page.get_by_text("The code has expired.").wait_for()


def test_what_is_typed_stays_while_states_change(page: Page, served: Served, ada: Instance) -> None:
    world = served.world
    set_config(world, telegram={"enabled": True})
    set_states(world, "telegram", UP | {"connected": False, "lifecycle": "starting"})
    page.clock.install()
    opened(page, served, ada, "channels")
    page.get_by_label("Pairing code").locator("visible=true").fill("ABCD")
    set_states(world, "telegram", REFUSED)
    look_again(page)
    page.locator("#state-telegram").get_by_text("Telegram bot token unauthorized").wait_for()
    assert page.get_by_label("Pairing code").locator("visible=true").input_value() == "ABCD"
    page.get_by_text("Other credentials").click()
    page.locator("#telegram-token").fill("1:wrong")
    refuse(page, 400)
    page.locator("#connect-telegram").click()
    page.get_by_role("alert").get_by_text("Telegram bot token unauthorized").wait_for()
    assert page.locator("#telegram-token").input_value() == "1:wrong"


def test_a_refused_configuration_stays_as_it_was_typed(
    page: Page, served: Served, ada: Instance
) -> None:
    opened(page, served, ada, "config")
    document = page.get_by_label("Configuration of Ada, as JSON")
    typed = '{\n  "agents": {\n    "defaults": {},\n    "nonsense": 1\n  }\n}'
    document.fill(typed)
    page.get_by_role("button", name="Validate").click()
    page.get_by_text('Unrecognized key: "nonsense"').wait_for()
    assert document.input_value() == typed
    page.get_by_role("button", name="Line 4").click()
    selected = "(f => f.value.slice(f.selectionStart, f.selectionEnd))(document.activeElement)"
    assert page.evaluate(selected) == '    "nonsense": 1'
    assert HIDDEN not in page.locator("#verdict").inner_text()
    document.fill('{"agents": {"defaults": {}}, "skills": {"entries": {}}}')
    page.get_by_role("button", name="Validate").click()
    page.get_by_text("OpenClaw restarts for").wait_for()


def test_the_tabs_are_in_nobodys_way(page: Page, served: Served, ada: Instance) -> None:
    world = served.world
    opened(page, served, ada, "skills")
    page.locator("#skill-rows tr").first.wait_for()
    judge_in_all_looks(page)
    opened(page, served, ada, "skills/one?name=pager")
    page.get_by_label("PAGER_ROOM").wait_for()
    judge_in_all_looks(page)
    opened(page, served, ada, "config")
    document = page.get_by_label("Configuration of Ada, as JSON")
    judge_in_all_looks(page)
    document.fill(json.dumps({"agents": {"x" * 200: 1}}))
    page.get_by_role("button", name="Validate").click()
    page.get_by_role("button", name="Line 1").wait_for()
    judge_in_all_looks(page)
    set_config(world, telegram={"enabled": True}, whatsapp={"enabled": True})
    set_states(world, "whatsapp", UNLINKED)
    world.gateway.rpc_answers |= {
        "web.login.start": ok({"qrDataUrl": qr.data_url("2@code"), "message": "Scan it."}),
        "web.login.wait": ok({"qrDataUrl": qr.data_url("2@code")}),
    }
    opened(page, served, ada, "channels")
    page.get_by_role("button", name="Show a QR code for WhatsApp").click()
    page.get_by_role("img", name="QR code").wait_for()
    open_all(page)
    judge_in_all_looks(page)
    page.get_by_role("button", name="Disconnect WhatsApp").click()
    page.get_by_role("dialog").wait_for()
    judge_in_all_looks(page)
    stopped = served.call(world.placed, InstanceStatus.STOPPED)
    for tab in ("channels", "skills", "config"):
        opened(page, served, stopped, tab)
        page.get_by_role("button", name="Start Ada").wait_for()
        judge_in_all_looks(page)


def test_one_that_is_stopped_meanwhile_is_started_from_there(
    page: Page, served: Served, ada: Instance
) -> None:
    page.clock.install()
    opened(page, served, ada, "channels")
    page.locator("#open-telegram").wait_for()
    served.call(served.world.lifecycle.stop, ada.organization_id, ada.id)
    look_again(page)
    page.locator("#channels").get_by_text("Instance is stopped").wait_for()
    page.locator("#channels").get_by_role("button", name="Start Ada").click()
    page.locator("#open-telegram").wait_for()
