"""The overview and the inspector in real Chromium: agents' life by clicking, what is pasted."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import BOOT_TIMEOUT_S, Api
from tests.e2e.dashboards import provoke, root, visit_server
from tests.e2e.node import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
BOOT_TIMEOUT_MS = BOOT_TIMEOUT_S * 1000


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """The overview, signed in; what the browser complains of fails the test."""
    with visit_server(browser, server) as page:
        page.goto(f"{root(server)}/")
        yield page


def line(page: Page, name: str) -> Locator:
    """The instance's line of the list."""
    named = page.locator(".name", has=page.get_by_text(name, exact=True))
    return page.locator("#rows tr", has=named)


def until(page: Page, name: str, status: str) -> None:
    line(page, name).and_(page.locator(f"[data-status={status}]")).wait_for(timeout=BOOT_TIMEOUT_MS)


def test_an_agents_whole_life_by_clicking(page: Page) -> None:
    page.get_by_label("Name of the new instance").fill(HOSTILE)
    page.get_by_role("button", name="Create").click()
    on_its_way = line(page, HOSTILE)
    on_its_way.get_by_role("list", name="Progress").wait_for()
    assert page.get_by_label("Name of the new instance").input_value() == ""
    until(page, HOSTILE, "running")
    on_its_way.get_by_role("img", name="Memory").wait_for()
    on_its_way.get_by_role("img", name="Processor").wait_for()

    on_its_way.get_by_role("button", name="Stop").click()
    until(page, HOSTILE, "stopped")
    page.get_by_text(f"{HOSTILE} is stopped.").first.wait_for()
    line(page, HOSTILE).get_by_role("button", name="Start").click()
    until(page, HOSTILE, "running")

    line(page, HOSTILE).get_by_role("button", name="Fork").click()
    page.get_by_label("Name of the new one").fill("copy")
    page.get_by_role("dialog").get_by_role("button", name="Fork").click()
    until(page, "copy", "running")

    for name in ("copy", HOSTILE):
        line(page, name).get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Keep it").click()
        page.get_by_role("dialog").wait_for(state="hidden")
        line(page, name).get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete for good").click()
        line(page, name).wait_for(state="detached")
    assert page.title() == "Overview · chowder-local"


def test_what_others_do_is_seen_at_once(page: Page, api: Api, patient: str) -> None:
    name = api.get(f"instances/{patient}").json()["name"]
    api.stop(patient)
    until(page, name, "stopped")
    api.start(patient)
    until(page, name, "running")
    api.say(patient, "Which way does the tide turn?")
    line(page, name).get_by_text("Which way does the tide turn?").wait_for()


def test_a_call_is_found_looked_into_and_said_again(
    page: Page, server: ServerProcess, api: Api, instance: str
) -> None:
    word, session = f"w{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    said = api.say(instance, f"Remember {word}.", session=session)
    page.goto(f"{root(server)}/inspector")
    page.get_by_role("searchbox").fill(word)
    page.get_by_role("link", name=f"Remember {word}.").first.click()
    page.get_by_role("heading", name=f"Remember {word}.").wait_for()
    page.get_by_text("System prompt").click()
    page.get_by_text("Runtime: agent=main").first.wait_for()
    page.get_by_role("button", name="Say this again").click()
    page.locator("#notice").get_by_text("In force for this agent").wait_for()
    assert api.say(instance, f"Remember {word}.", session=session) == said
    page.get_by_role("button", name="Fail the next message").click()
    page.locator("#notice").get_by_text("fails with 502").wait_for()
    assert api.message(instance, "Hi", session=session).status_code == 502
    api.delete(f"{root(server)}/local/instances/{instance}/replies")


def test_what_is_pasted_runs_as_it_stands(
    page: Page, server: ServerProcess, instance: str, tmp_path: Path
) -> None:
    page.reload()
    texts = page.evaluate(
        "Object.fromEntries(['env-command', 'snippet-curl', 'snippet-python', 'snippet-javascript']"
        ".map((id) => [id, document.getElementById(id).textContent]))"
    )
    (tmp_path / "hello.py").write_text(texts["snippet-python"])
    (tmp_path / "hello.mjs").write_text(texts["snippet-javascript"])
    for command in (
        texts["snippet-curl"],
        f"{sys.executable} hello.py",
        f"{tool('node')} hello.mjs",
    ):
        script = f"{texts['env-command']}\n{command}"
        done = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, env=server.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Who are you and what can you do?" in done.stdout


def test_a_server_that_comes_back_is_followed_again(
    page: Page, server: ServerProcess, patient: str
) -> None:
    page.evaluate("window.stays = true")
    page.locator("#verdict .good").wait_for()
    server.down()
    page.get_by_text("The server does not answer.").wait_for()
    page.locator("#verdict").get_by_text("Not known while the server").wait_for()
    # Unless it is there again before the browser tries once more.
    provoke(page, "net::ERR_", is_certain=False)
    server.up()
    with Api(server.base_url, server.key) as api:
        name = api.until(patient, "running")["name"]
        api.stop(patient)
        until(page, name, "stopped")
    page.get_by_text("The server does not answer.").wait_for(state="detached")
    page.locator("#verdict .facts").wait_for()
    assert page.evaluate("window.stays")
