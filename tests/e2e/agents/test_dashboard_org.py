"""What the dashboard tells of real agents: attempts, and long conversations."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboards import root, visit_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    with visit_server(browser, server) as page:
        yield page


@pytest.fixture
def word(server: ServerProcess, api: Api, instance: str) -> Iterator[str]:
    """A word of the test's own; whatever is scripted for the agent is taken back."""
    yield f"w{uuid.uuid4().hex[:8]}"
    api.delete(f"{root(server)}/local/instances/{instance}/replies")


def scripted(server: ServerProcess, api: Api, instance: str, word: str, reply: Any) -> None:
    """Has the first call about a word answered that way."""
    rule = {"match": {"text": word}, "times": 1, "reply": reply}
    path = f"{root(server)}/local/instances/{instance}/replies"
    assert api.put(path, json={"replies": [rule]}).status_code == 200


def test_a_call_that_openclaw_repeats_leads_to_the_former_one(
    page: Page, server: ServerProcess, api: Api, instance: str, word: str
) -> None:
    # OpenClaw does not take silence for an answer.
    scripted(server, api, instance, word, {"text": ""})
    api.say(instance, f"Say {word}.", session=word)
    page.goto(f"{root(server)}/model-calls?q={word}")
    again = page.locator("#rows tr", has_text="2nd attempt, after")
    again.locator("a.name").click()
    page.get_by_text("which returned nothing").get_by_role("link").click()
    expect(page.get_by_role("definition").filter(has_text="script: replies[0]")).to_be_visible()
    assert page.get_by_text("2nd").count() == 0
