"""An instance's files, log and snapshots in real Chromium, over an engine that is scripted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from chowder_local.dashboard.logs import KEPT
from chowder_local.openclaw.session_keys import session_key
from tests.api.test_skills import entry as skill
from tests.e2e.dashboards import Served, judge_in_all_looks, refuse
from tests.scripted.programs import done

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page

    from chowder_local.core.domain import Instance


HOSTILE = "<script>document.title='owned'<&script><img src=x onerror=document.title='owned'>.md"
SCRIPT = "</textarea><script>document.title='owned'</script>"


def show(page: Page, served: Served, instance: Instance, tab: str) -> None:
    page.goto(f"{served.root_url}/instances/{instance.id}{tab}")


def printed(served: Served, *lines: str) -> None:
    """Has every log that is followed go on with these lines."""
    assert served.world.engine.printed is not None
    content = "".join(f"{line}\n" for line in lines).encode()
    served.portal.call(served.world.engine.printed.put_nowait, content)


def payload(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def entry(page: Page, name: str) -> Any:
    return page.locator("#rows").get_by_role("link", name=name, exact=True)


# axe-core judges each page in four looks.
def test_they_are_in_nobodys_way(page: Page, served: Served) -> None:
    ada = served.created("Ada" * 40)
    home = served.world.state_of(ada)
    (home / "openclaw.json").write_text("{}")
    (home / "workspace" / ("deep" * 20) / ("deeper" * 20)).mkdir(parents=True)
    (home / ("n" * 255)).write_text("x" * 5000)
    (home / HOSTILE).write_text(SCRIPT)
    (home / "link").symlink_to("/etc")
    (home / "picture.png").write_bytes(b"\xff" * 1000)
    served.call(served.world.snapshots.take, ada, "s" * 128)
    served.world.engine.log = f"{'x' * 3000}\n\nan <b>error</b>\n" * 30
    refuse(page, 404)
    for tab, words in (
        ("/files", "picture.png"),
        (f"/files?path=workspace/{'deep' * 20}/{'deeper' * 20}", "This folder is empty."),
        ("/files?path=nowhere", "File not found."),
        ("/files/edit?path=openclaw.json", "2 B"),
        ("/files/edit?path=picture.png", "The file is not text"),
        ("/files/edit?path=nowhere", "The file does not exist yet"),
        ("/logs", "The log has ended"),
        ("/snapshots", "Take a snapshot"),
    ):
        show(page, served, ada, tab)
        page.get_by_text(words).first.wait_for()
        judge_in_all_looks(page)
    for action in ("Restore", "Fork", "Delete"):
        page.locator("#snapshots").get_by_role("button", name=action).click()
        page.get_by_role("dialog").wait_for()
        judge_in_all_looks(page)
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="hidden")
    show(page, served, ada, "/files")
    page.locator("#upload").set_input_files([payload("a" * 200, b"x"), payload("b", b"x")])
    page.locator("#uploads").get_by_text("done").last.wait_for()
    judge_in_all_looks(page)
    show(page, served, ada, "/files/edit?path=openclaw.json")
    (home / "openclaw.json").write_text("[]")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Save my version anyway").wait_for()
    judge_in_all_looks(page)
    page.goto(f"{served.root_url}/")
    page.get_by_role("button", name="Import").click()
    page.get_by_role("dialog", name="Import an agent").wait_for()
    judge_in_all_looks(page)
    served.call(served.world.lifecycle.stop, ada.organization_id, ada.id)
    for tab in ("/files", "/logs", "/snapshots"):
        show(page, served, ada, tab)
        page.get_by_text("stopped").first.wait_for()
        judge_in_all_looks(page)


def test_no_name_and_no_text_of_an_agent_runs_on_a_page(page: Page, served: Served) -> None:
    ada, world = served.created(HOSTILE), served.world
    evil = skill(HOSTILE, description=SCRIPT, homepage="javascript:document.title='owned'")
    world.programs.answers["skills.status"] = done(skills=[evil])
    served.call(world.sessions.remember, ada.id, SCRIPT, session_key(SCRIPT), world.clock.now)
    world.programs.answers["list"] = done(sessions=[{"key": HOSTILE, "channel": SCRIPT}])
    world.programs.answers["read"] = done(is_known=True, messages=[], has_more=False)
    world.engine.log = f"{SCRIPT}\n{HOSTILE}\n"
    called = world.call_log.begin(world.organization_id, ada.id, "openai", HOSTILE, b"{}")
    called.finish("refused", SCRIPT)
    for address in ("/", "/inspector", f"/inspector/{called.id}"):
        page.goto(f"{served.root_url}{address}")
        page.get_by_text("title='owned'").last.wait_for()
        assert page.title() != "owned"
    for tab in ("", "/skills", f"/skills/one?{urlencode({'name': HOSTILE})}", "/logs"):
        show(page, served, ada, tab)
        page.locator("#main").get_by_text("title='owned'").last.wait_for()
        page.wait_for_load_state("networkidle" if tab != "/logs" else "load")
        assert page.title() != "owned"


def test_an_upload_that_is_refused_says_why_and_the_next_one_goes_on(
    page: Page, served: Served
) -> None:
    ada = served.created("Ada")
    home = served.world.state_of(ada)
    (home / "taken").mkdir()
    (home / "taken" / "x").mkdir()
    show(page, served, ada, "/files?path=taken")
    refuse(page, 400)
    page.locator("#upload").set_input_files([payload("x", b"1"), payload("y", b"2")])
    page.locator("#uploads").get_by_text("is a directory").wait_for()
    entry(page, "y").wait_for()
    assert (home / "taken" / "y").read_bytes() == b"2"


def test_a_log_is_followed_filtered_and_held_back(page: Page, served: Served) -> None:
    ada, log = served.created("Ada"), page.locator("#log")
    served.world.engine.log = "first\n"
    served.world.engine.printed = asyncio.Queue()
    show(page, served, ada, "/logs")
    log.get_by_text("first").wait_for()
    printed(served, "an error <img src=x onerror=document.title='owned'>", "Some ERROR more", "")
    log.get_by_text("an error <img").wait_for()
    page.get_by_text("4 lines").wait_for()
    page.get_by_label("Show only lines with these words").fill("error some")
    page.get_by_text("1 of 4 lines").wait_for()
    assert log.get_by_text("first").is_hidden()
    page.get_by_role("button", name="Pause").click()
    printed(served, "some later error", "and more")
    page.get_by_role("button", name="Resume (2 new)").click()
    page.get_by_text("2 of 6 lines").wait_for()
    page.get_by_label("Show only lines with these words").fill("")
    log.get_by_text("and more").wait_for()
    printed(served, *(f"line {number}" for number in range(KEPT)))
    log.get_by_text(f"line {KEPT - 1}", exact=True).wait_for()
    printed(served, *(f"more {number}" for number in range(2 * KEPT)))
    log.get_by_text(f"more {2 * KEPT - 1}", exact=True).wait_for()
    assert log.locator("div").count() <= 2 * KEPT
    log.get_by_text("lines omitted").wait_for()
    assert page.title() != "owned"


def test_a_log_that_is_read_further_up_stays_there(page: Page, served: Served) -> None:
    ada, log = served.created("Ada"), page.locator("#log")
    served.world.engine.log = "".join(f"line {number}\n" for number in range(200))
    served.world.engine.printed = asyncio.Queue()
    show(page, served, ada, "/logs")
    log.get_by_text("line 199").wait_for()
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    assert log.evaluate(at_end)
    log.evaluate("log => { log.scrollTop = 100 }")
    printed(served, "later")
    log.get_by_text("later").wait_for()
    assert log.evaluate("log => log.scrollTop") == 100
