"""What the dashboard tells of real agents: attempts, and long conversations."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboards import root, visit_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

LONG = "The tide turns. " * 15_000
"""More than a page bears."""
SHORTER = LONG[:30_000]
"""More than it shows at first."""


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


def test_a_call_that_the_relay_repeats_is_told_from_a_first_one(
    page: Page, server: ServerProcess, api: Api, instance: str, word: str
) -> None:
    scripted(server, api, instance, word, {"error": 429, "retry_after_s": 1})
    page.goto(f"{root(server)}/model-calls?q={word}")
    api.say(instance, f"Say {word}.", session=word)
    line = page.locator("#rows tr", has_text=word)
    expect(line).to_contain_text("2nd attempt")
    line.get_by_role("link", name=f"Say {word}.").click()
    page.get_by_text("The relay retried: script: replies[0] answered 429").wait_for()


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


def test_a_call_that_fails_is_among_the_failed_ones(
    page: Page, server: ServerProcess, api: Api, instance: str, word: str
) -> None:
    scripted(server, api, instance, word, {"error": 500})
    assert api.message(instance, f"Say {word}.", session=word).status_code == 500
    page.goto(f"{root(server)}/model-calls?q={word}")
    line = page.locator("#rows tr", has_text=word)
    expect(line).to_have_count(1)
    page.get_by_label("Status").select_option("ok")
    expect(line).to_have_count(0)
    page.get_by_label("Status").select_option("failed")
    expect(line).to_contain_text("500")
    expect(line).not_to_contain_text("attempt")


def test_a_long_answer_is_cut_and_can_be_had_whole(
    page: Page, server: ServerProcess, api: Api, instance: str, word: str, tmp_path: Path
) -> None:
    # In this order, for what was said before goes with each call.
    for reply in (SHORTER, LONG):
        scripted(server, api, instance, word, reply)
        api.say(instance, f"Say {word}.", session=word)
    page.goto(f"{root(server)}/instances/{instance}")
    page.get_by_role("link", name=word).click()
    shorter, long = (page.locator("#talk > .model").nth(each) for each in (0, 1))
    expect(long).to_contain_text("240,000 characters")
    # Beside it the agent's other conversations are listed, however many.
    assert len(page.locator("#talk").inner_html()) < 50_000
    with page.expect_download() as download:
        long.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "long.txt")
    assert (tmp_path / "long.txt").read_text() == LONG
    shorter.get_by_role("button", name="Show all").click()
    expect(shorter.get_by_role("button")).to_have_count(0)
    assert shorter.locator("pre").text_content() == SHORTER
