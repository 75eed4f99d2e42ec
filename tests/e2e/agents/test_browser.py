"""A page on another local port with a key in it: what real Chromium lets it do, and what not."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.api import TURN_TIMEOUT_S, Api
from tests.e2e.browser import FOREIGN_DOMAIN, served
from tests.e2e.node import CLIENTS
from tests.e2e.stand_in import Slow, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = pytest.mark.docker

HELLO = {"model": "gpt-4o", "input": "Hello!"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the page is served."""
    with served(CLIENTS) as port:
        yield port


@pytest.fixture
def page(browser: Browser, port: int) -> Iterator[Page]:
    """The page in a profile of its own, which remembers no preflight of another test."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://localhost:{port}/page.html")
        yield page


@pytest.fixture
def key(api: Api, instance: str) -> str:
    """The key that is in the page: good for talking with one agent, and no more."""
    return scoped_key(api, instance)


def scoped_key(api: Api, *instance_ids: str) -> str:
    body = {"name": "page", "instance_ids": instance_ids, "permissions": ["read", "interact"]}
    answer = api.post("keys", json=body)
    assert answer.status_code == 201, answer.text
    raw: str = answer.json()["raw_key"]
    return raw


def call(page: Page, url: str, key: str, body: Any = None) -> dict[str, Any]:
    """What the page sees of a call."""
    seen: dict[str, Any] = page.evaluate("(given) => call(...given)", [url, key, body])
    return seen


def await_text(page: Page, words: str) -> None:
    """Returns once the page shows words of a stream."""
    found = "(words) => shown.text.includes(words)"
    page.wait_for_function(found, arg=words, timeout=TURN_TIMEOUT_S * 1000)


def test_a_page_polls_until_its_agent_is_running(
    page: Page, server: ServerProcess, instance: str, key: str
) -> None:
    url = f"{server.base_url}/instances/{instance}/status"
    seen = page.evaluate("(given) => poll(...given)", [url, key, "running"])
    assert (seen["id"], seen["status"]) == (instance, "running")


def test_a_page_chats_after_the_browsers_preflight(
    page: Page, server: ServerProcess, conversation: str, key: str
) -> None:
    seen = call(page, f"{conversation}/responses", key, HELLO)
    assert seen["status"] == 200
    (message,) = seen["body"]["output"]
    assert message["content"][0]["text"] == '[offline] Turn 1. You said: "Hello!"'
    assert len(seen["headers"]["x-request-id"]) == 32
    path = conversation.removeprefix(server.base_url)
    assert f"OPTIONS /v1{path}/responses 200" in server.log()


def test_a_page_of_any_loopback_origin_may_call(
    page: Page, port: int, server: ServerProcess, instance: str, key: str
) -> None:
    for host in ("127.0.0.1", "my-app.localhost"):
        page.goto(f"http://{host}:{port}/page.html")
        seen = call(page, f"{server.base_url}/instances/{instance}", key)
        assert (seen["status"], seen["body"]["id"]) == (200, instance), host


def test_a_page_from_elsewhere_is_refused_whatever_its_name_begins_with(
    page: Page, port: int, server: ServerProcess, instance: str, key: str
) -> None:
    asked = f"OPTIONS /v1/instances/{instance}/responses 400"
    for host in ("www", "localhost", "127.0.0.1"):
        before = server.log().count(asked)
        page.goto(f"http://{host}.{FOREIGN_DOMAIN}:{port}/page.html")
        for body in (None, HELLO):
            seen = call(page, f"{server.base_url}/instances/{instance}/responses", key, body)
            assert seen == {"refused": "TypeError"}, host
        # The page did ask: it is the server's answer that the browser took for a no.
        assert server.log().count(asked) > before, host


@pytest.mark.usefixtures("keyed")
def test_a_page_reads_a_stream_as_it_comes(
    page: Page, conversation: str, key: str, stand_in: StandIn
) -> None:
    slow = Slow()
    body = {"model": "claude-sonnet-4-20250514", "input": "A story.", "stream": True}
    with stand_in.behaving(slow):
        begin = "(given) => { window.ended = stream(...given); }"
        page.evaluate(begin, [f"{conversation}/responses", key, body])
        await_text(page, slow.WORDS)
        assert not slow.left.is_set()
        assert "response.completed" not in page.evaluate("shown.types")
        slow.go_on()
        ended = page.evaluate("window.ended")
    assert ended["status"] == 200
    assert ended["type"].startswith("text/event-stream")
    assert ended["rest"] == ""
    types = page.evaluate("shown.types")
    assert types[0] == "response.created"
    assert types[-2:] == ["response.completed", "[DONE]"]


@pytest.mark.usefixtures("keyed")
def test_a_page_that_is_closed_ends_its_model_call(
    page: Page, conversation: str, key: str, stand_in: StandIn
) -> None:
    slow = Slow()
    body = {"model": "claude-sonnet-4-20250514", "input": "A story.", "stream": True}
    with stand_in.behaving(slow):
        begin = "(given) => { stream(...given); }"
        page.evaluate(begin, [f"{conversation}/responses", key, body])
        await_text(page, slow.WORDS)
        page.close()
        assert slow.left.wait(timeout=30)


def test_a_page_reads_why_its_call_was_refused(
    page: Page, api: Api, server: ServerProcess, patient: str
) -> None:
    key = scoped_key(api, patient)
    api.stop(patient)
    messages = f"{server.base_url}/instances/{patient}/responses"
    unknown = f"{server.base_url}/instances/{uuid.uuid4()}"
    refused = {
        401: call(page, messages, "chd_sk_wrong", HELLO),
        403: call(page, f"{server.base_url}/organization", key),
        404: call(page, unknown, key),
        405: call(page, f"{server.base_url}/instances/{patient}/status", key, HELLO),
        409: call(page, messages, key, HELLO),
        422: call(page, messages, key, {"model": "gpt-4o"}),
    }
    for status, seen in refused.items():
        assert seen["status"] == status
        assert seen["body"]["detail"], status


@pytest.mark.usefixtures("keyed")
def test_a_page_reads_when_it_may_try_again(
    page: Page, conversation: str, key: str, stand_in: StandIn
) -> None:
    with stand_in.behaving(refusal(429, "Slow down.", retry_after="1")):
        seen = call(page, f"{conversation}/responses", key, HELLO)
    assert (seen["status"], seen["headers"]["retry-after"]) == (429, "1")
    assert "Slow down." in seen["body"]["detail"]["error"]
