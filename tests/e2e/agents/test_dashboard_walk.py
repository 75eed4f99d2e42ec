"""A walk through the dashboard in real Chromium, to a real agent that is talked to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import TURN_TIMEOUT_S
from tests.e2e.dashboards import heard, root, sign_in_link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TURN_TIMEOUT_MS = TURN_TIMEOUT_S * 1000


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of nobody's; what the browser complains of fails the test."""
    with heard(browser) as page:
        yield page


@pytest.mark.usefixtures("prompt_texts")
def test_one_signs_in_by_a_link_talks_to_an_agent_and_sees_the_tools_that_it_uses(
    page: Page, server: ServerProcess, api: Api, instance: str
) -> None:
    # The page offers the model of the agent's last call, whose provider may have no key any more.
    api.say(instance, "Hello.")
    page.goto(sign_in_link(server))
    page.wait_for_url(f"{root(server)}/")
    page.locator(f"#instance-{instance} a.name").click()
    page.wait_for_url(f"{root(server)}/instances/{instance}")
    talk = page.locator("#talk")
    page.get_by_text("New conversation").click()
    page.locator(".begin").get_by_label("Name").fill(f"Größe {uuid.uuid4().hex[:8]}")
    page.get_by_label("Message", exact=True).last.fill('call exec {"command": "echo $((6*7))"}')
    page.locator(".begin").get_by_role("button", name="Send").click()
    answer = talk.locator("[data-answer]").last
    answer.locator(".calls").get_by_text("exec", exact=True).wait_for(timeout=TURN_TIMEOUT_MS)
    answer.locator(".words").get_by_text("42").wait_for(timeout=TURN_TIMEOUT_MS)
    answer.and_(page.locator(":not([aria-busy])")).wait_for()
    # It goes on where it is, and what an agent says is text.
    page.reload()
    page.get_by_role("link", name="Größe").first.click()
    talk.get_by_text("echo $((6*7))").first.wait_for()
    page.get_by_label("Message", exact=True).first.fill(HOSTILE)
    page.keyboard.press("Enter")
    talk.locator(".words").last.get_by_text("You said:").wait_for(timeout=TURN_TIMEOUT_MS)
    assert HOSTILE in (talk.locator(".words").last.text_content() or "")
    assert "owned" not in page.title()
