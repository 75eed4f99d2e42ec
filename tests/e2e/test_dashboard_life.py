"""The overview in real Chromium: agents' life by clicking, and a server that was away.

Agents are those of the quick image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.dashboards import line, provoke, root, until, visit_server
from tests.e2e.quick_agents import HELD, let_go
from tests.e2e.serving import is_before

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from playwright.sync_api import Browser, Page

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

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
