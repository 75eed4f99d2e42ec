"""What a page that somebody happens to look at can do to the server: real Chromium, real names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.browser import FOREIGN_DOMAIN, served
from tests.e2e.node import CLIENTS
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

SIGN_UP = """async ([url, mode, type]) => {
    const headers = type ? { "Content-Type": type } : {};
    const body = JSON.stringify({ name: "drive-by" });
    try {
        const answer = await fetch(url, { method: "POST", mode, headers, body });
        return [answer.status, await answer.text()];
    } catch (refused) {
        return [refused.name, ""];
    }
}"""
SUBMIT = """(url) => {
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", action: url, enctype: "text/plain" });
    const field = document.createElement("input");
    Object.assign(field, { name: '{"name": "drive-by", "x": "', value: '"}' });
    form.append(field);
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def foreign(page: Page) -> Iterator[Page]:
    """A page of another site, on another port."""
    with served(CLIENTS) as port:
        page.goto(f"http://www.{FOREIGN_DOMAIN}:{port}/page.html")
        yield page


def signups(server: ServerProcess) -> list[str]:
    """The statuses of all that were tried, from the log."""
    line = "POST /v1/organization/signup "
    return [each.partition(line)[2][:3] for each in server.log().splitlines() if line in each]


def test_a_page_of_another_site_makes_no_organization(foreign: Page, server: ServerProcess) -> None:
    before, url = signups(server), f"{server.base_url}/organization/signup"
    seen = {
        way: foreign.evaluate(SIGN_UP, [url, *way])
        for way in (
            ("no-cors", None),
            ("no-cors", "text/plain"),
            ("cors", "text/plain"),
            ("cors", "application/json"),
        )
    }
    read = {way: what for way, what in seen.items() if what not in ([0, ""], ["TypeError", ""])}
    assert read == {}
    assert set(signups(server)[len(before) :]) <= {"403"}


def test_a_form_of_another_site_makes_no_organization(foreign: Page, server: ServerProcess) -> None:
    before = signups(server)
    foreign.evaluate(SUBMIT, f"{server.base_url}/organization/signup")
    eventually(lambda: signups(server)[len(before) :], "the form has arrived")
    assert signups(server)[len(before) :] == ["403"]


def test_a_page_whose_name_now_leads_here_is_of_no_use(page: Page, server: ServerProcess) -> None:
    """As after a rebinding of DNS: to the browser it is the server's own page."""
    before = signups(server)
    arrived = page.goto(f"http://www.{FOREIGN_DOMAIN}:{server.port}/local/ready")
    assert arrived is not None
    assert arrived.status == 403
    assert "CHOWDER_ALLOWED_HOSTS" in arrived.text()
    status, words = page.evaluate(SIGN_UP, ["/v1/organization/signup", "cors", "application/json"])
    assert status == 403
    assert "api_key" not in words
    # A line comes after its answer.
    eventually(lambda: signups(server)[len(before) :], "the request is in the log")
    assert signups(server)[len(before) :] == ["403"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_servers_own_buttons_work(page: Page, server: ServerProcess, host: str) -> None:
    with Api(server.base_url.replace("127.0.0.1", host), "none") as nobody:
        key = nobody.post("organization/signup", json={"name": "Buyers"}).json()["api_key"]
        headers = {"Authorization": f"Bearer {key}"}
        body = {"tier": "crab"}
        url = nobody.post("subscription/checkout", json=body, headers=headers).json()["url"]
        page.goto(url)
        page.get_by_role("button").click()
        page.get_by_text("Buyers is on crab").wait_for()
        assert nobody.get("subscription", headers=headers).json()["tier"] == "crab"
