"""The overview and the inspector in real Chromium, with real agents: what is told and pasted."""

from __future__ import annotations

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import text_of
from tests.e2e.copies import local
from tests.e2e.dashboards import line, root, until, visit_server
from tests.e2e.node import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """The overview, signed in; what the browser complains of fails the test."""
    with visit_server(browser, server) as page:
        page.goto(f"{root(server)}/")
        yield page


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
    page.goto(f"{root(server)}/model-calls")
    page.get_by_role("searchbox").fill(word)
    page.get_by_role("link", name=f"Remember {word}.").first.click()
    page.get_by_role("heading", name=f"Remember {word}.").wait_for()
    page.get_by_text("System prompt").click()
    page.get_by_text("Runtime: agent=main").first.wait_for()
    page.get_by_role("button", name="Replay as script").click()
    page.locator("#notice").get_by_text("The rule is in force for this agent").wait_for()
    assert api.say(instance, f"Remember {word}.", session=session) == said
    page.get_by_role("button", name="Fail the next message").click()
    page.locator("#notice").get_by_text("fails with 502").wait_for()
    assert api.message(instance, "Hi", session=session).status_code == 502
    api.delete(f"{root(server)}/local/instances/{instance}/replies")


# An agent of its own, to which nobody has spoken; quick, for it is the snippets that are tried.
def test_what_is_pasted_runs_as_it_stands(
    browser: Browser, quick_server: ServerProcess, quick_api: Api, tmp_path: Path
) -> None:
    instance_id = quick_api.created("pasted")
    quick_api.until(instance_id, "running")
    with visit_server(browser, quick_server) as page:
        page.goto(f"{root(quick_server)}/")
        texts = page.evaluate(
            "Object.fromEntries(['env-command', 'snippet-curl', 'snippet-python',"
            " 'snippet-javascript'].map((id) => [id, document.getElementById(id).textContent]))"
        )
    assert instance_id in texts["snippet-curl"]
    (tmp_path / "hello.py").write_text(texts["snippet-python"])
    (tmp_path / "hello.mjs").write_text(texts["snippet-javascript"])
    for command in (
        texts["snippet-curl"],
        f"{sys.executable} hello.py",
        f"{tool('node')} hello.mjs",
    ):
        script = f"{texts['env-command']}\n{command}"
        done = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, env=quick_server.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Who are you and what can you do?" in done.stdout, done.stdout
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204


@pytest.mark.nightly
def test_a_command_is_allowed_and_a_turn_is_ended_by_clicking(
    page: Page, api: Api, instance: str
) -> None:
    path = f"instances/{instance}"
    name = api.get(path).json()["name"]
    local(api, "PUT", f"{path}/approvals/policy", json={"ask": "always"})
    reply = [{"call": "exec", "arguments": {"command": "hostname"}}, {"text": "Done."}]
    local(api, "PUT", f"{path}/replies", json={"replies": [{"reply": reply}]})
    session = uuid.uuid4().hex
    with ThreadPoolExecutor() as threads:
        sent = threads.submit(api.message, instance, "Go.", session=session)
        page.get_by_role("link", name="1 waits for approval").click()
        page.get_by_role("button", name="Approve hostname").click()
        page.get_by_text("The command runs.").first.wait_for()
        assert text_of(sent.result().json()) == "Done."
        sent = threads.submit(api.message, instance, "Again.", session=session)
        page.get_by_role("button", name="Deny hostname").wait_for()
        page.get_by_role("link", name="Activity").click()
        page.get_by_text(f"{name} is busy").wait_for()
        page.get_by_role("button", name="Cancel all").click()
        assert sent.result().status_code == 409
        page.get_by_text(f"{name} is idle").wait_for()
    local(api, "PUT", f"{path}/approvals/policy", json={"ask": "off"})
    local(api, "DELETE", f"{path}/replies")
