"""The overview in real Chromium: agents' life by clicking, and a server that was away.

Agents are those of the quick image.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.api import Api, text_of
from tests.e2e.dashboards import line, provoke, root, until, visit_server
from tests.e2e.quick_agents import HELD, let_go, made
from tests.e2e.serving import is_before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import docker
    import httpx
    from playwright.sync_api import Browser, Page

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

VERDICT = ".bad" if is_before("2026.9.6") else ".good"
"""Shortcuts that are off on an older release are problems."""
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def page(browser: Browser, quick_server: ServerProcess) -> Iterator[Page]:
    """The overview, signed in; what the browser complains of fails the test."""
    with visit_server(browser, quick_server) as page:
        page.goto(f"{root(quick_server)}/")
        yield page


def test_a_boot_is_followed_until_it_has_ended(
    page: Page, quick_api: Api, quick_server: ServerProcess, engine: docker.DockerClient
) -> None:
    instance_id = quick_api.created("held", openclaw_config=HELD)
    line(page, "held").get_by_role("list", name="Progress").wait_for()
    let_go(quick_api, quick_server, engine, instance_id)
    until(page, "held", "running")
    line(page, "held").get_by_role("list", name="Progress").wait_for(state="detached")
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204


def test_an_agents_whole_life_by_clicking(page: Page) -> None:
    page.get_by_label("Name of the new instance").fill(HOSTILE)
    page.get_by_role("button", name="Create").click()
    line(page, HOSTILE).wait_for()
    assert page.get_by_label("Name of the new instance").input_value() == ""
    until(page, HOSTILE, "running")
    line(page, HOSTILE).get_by_role("img", name="Memory").wait_for()
    line(page, HOSTILE).get_by_role("img", name="Processor").wait_for()

    line(page, HOSTILE).get_by_role("button", name="Stop").click()
    until(page, HOSTILE, "stopped")
    page.get_by_text(f"{HOSTILE} is stopped.").first.wait_for()
    line(page, HOSTILE).get_by_role("button", name="Start").click()
    until(page, HOSTILE, "running")

    line(page, HOSTILE).get_by_role("button", name="Fork").click()
    page.get_by_role("dialog").get_by_label("Name of the new instance").fill("copy")
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


def test_a_server_that_comes_back_is_followed_again(
    page: Page, quick_server: ServerProcess, quick_api: Api
) -> None:
    instance_id = quick_api.created("follower")
    until(page, "follower", "running")
    page.evaluate("window.stays = true")
    page.locator(f"#verdict {VERDICT}").wait_for()
    quick_server.down()
    page.get_by_text("The server does not answer.").wait_for()
    page.locator("#verdict").get_by_text("Unknown while the server").wait_for()
    # Unless it is there again before the browser tries once more.
    provoke(page, "net::ERR_", is_certain=False)
    quick_server.up()
    with Api(quick_server.base_url, quick_server.key) as api:
        api.until(instance_id, "running")
        api.stop(instance_id)
        until(page, "follower", "stopped")
    page.get_by_text("The server does not answer.").wait_for(state="detached")
    page.locator("#verdict .facts").wait_for()
    assert page.evaluate("window.stays")
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204


def test_model_calls_are_held_edited_answered_and_limited_by_clicking(
    page: Page, quick_api: Api, quick_server: ServerProcess
) -> None:
    instance_id, said = made(quick_api), "ask your model: My colour is teal."
    threads = ThreadPoolExecutor()

    def hold() -> Future[httpx.Response]:
        """Shows a call that is held; the message that it is of."""
        page.goto(f"{root(quick_server)}/instances/{instance_id}")
        page.get_by_role("button", name="Hold the next call").click()
        page.get_by_text("next model call is held").first.wait_for()
        page.goto(f"{root(quick_server)}/model-calls?instance={instance_id}")
        sent = threads.submit(quick_api.message, instance_id, said)
        page.locator("#rows tr", has_text="held").get_by_role("link").first.click()
        page.get_by_role("heading", name="Held", exact=True).wait_for()
        return sent

    def let_go(button: str) -> None:
        page.get_by_role("button", name=button, exact=True).click()
        page.get_by_role("heading", name="Held", exact=True).wait_for(state="detached")

    with threads:
        page.goto(f"{root(quick_server)}/instances/{instance_id}")
        page.get_by_role("button", name="Hold the next call").click()
        page.get_by_text("Holds one call").wait_for()
        page.get_by_role("button", name="Remove the breakpoint").click()
        page.get_by_text("Holds one call").wait_for(state="detached")
        assert "teal" in text_of(quick_api.message(instance_id, said).json())

        sent = hold()
        expect(page.get_by_label("Latest message")).to_have_value("My colour is teal.")
        let_go("Continue")
        assert "teal" in text_of(sent.result().json())

        sent = hold()
        page.get_by_label("Latest message").fill("My colour is blue.")
        let_go("Continue")
        assert "blue" in text_of(sent.result().json())

        sent = hold()
        page.get_by_text("Request as JSON").click()
        request = page.get_by_role("textbox", name="Request", exact=True)
        body = json.loads(request.input_value())
        body["messages"][-1]["content"] = "My colour is red."
        request.fill(json.dumps(body))
        let_go("Continue with this")
        assert "red" in text_of(sent.result().json())

        sent = hold()
        page.get_by_label("Answer in the model's place").fill("It is green.")
        let_go("Answer instead")
        assert text_of(sent.result().json()) == "It is green."

        sent = hold()
        page.get_by_label("Error status").fill("429")
        let_go("Fail it")
        assert sent.result().status_code == 429

    page.goto(f"{root(quick_server)}/usage?instance={instance_id}")
    page.get_by_label("Model calls").fill("0")
    page.get_by_label("Per").select_option("total")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_text("The budget is set.").first.wait_for()
    assert quick_api.message(instance_id, said).status_code == 402
    page.reload()
    page.get_by_role("alert").get_by_text("The agent's budget of 0 model calls is spent").wait_for()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("Nothing limits what model calls may take").wait_for()
    assert quick_api.message(instance_id, said).status_code == 200
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204
