"""The dashboard's pages in real Chromium: by keyboard, narrow, dark, for the blind, and a thousand.

What is behind them is real but for the engine, which is scripted: agents here only have states.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from chowder_local.core.domain import Instance, InstanceStatus
from chowder_local.core.events import EventType
from chowder_local.dashboard.overview import PORTION
from chowder_local.features.approvals import openclaw
from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.store.tables import InstanceRow
from tests.e2e.dashboards import Served, judge_in_all_looks, open_all, provoke, visit
from tests.e2e.waiting import eventually
from tests.scripted.gateway import ok
from tests.scripted.programs import done

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


@pytest.fixture
def page(page: Page, served: Served) -> Page:
    """The overview, signed in."""
    page.goto(f"{served.root_url}/")
    page.get_by_role("heading", name="Instances").wait_for()
    return page


def row(page: Page, instance: Instance, status: str = "") -> None:
    """Returns once its line is there, with that status."""
    wanted = f"[data-status={status}]" if status else ""
    page.locator(f"#instance-{instance.id}{wanted}").wait_for()


def test_it_is_searched_while_one_types(page: Page, served: Served) -> None:
    ada, bea = served.created("Ada"), served.created("Bea")
    row(page, bea, "running")
    page.get_by_role("searchbox").fill("ad")
    page.locator(f"#instance-{bea.id}").wait_for(state="detached")
    page.wait_for_url("**/?q=ad")
    row(page, ada)
    # What happens to those that are found is still told, and the others do not come in.
    cleo = served.created("Cleo")
    served.call(served.world.lifecycle.stop, ada.organization_id, ada.id)
    row(page, ada, "stopped")
    assert page.locator(f"#instance-{cleo.id}").count() == 0
    page.get_by_role("link", name="1 stopped").click()
    page.wait_for_url("**/?q=ad&status=stopped")
    page.go_back()
    page.wait_for_url("**/?q=ad")
    page.get_by_role("link", name="3 all").wait_for()
    page.go_back()
    row(page, cleo)


def test_it_is_used_by_keyboard_alone(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    row(page, ada, "running")
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    eventually(lambda: focused(page) == "main", "the content has the focus")
    tab_to(page, f"turn-{ada.id}")
    page.keyboard.press("Enter")
    told(page, "Ada is stopped.")
    # The line is another one by now, and the focus is where it was.
    eventually(lambda: focused(page) == f"turn-{ada.id}", "the button has the focus")
    page.keyboard.press("Enter")
    told(page, "Ada is running.")
    tab_to(page, f"delete-{ada.id}")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Delete Ada?").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Keep it"
    # Behind the dialog the line becomes another one, with another button.
    served.call(served.world.lifecycle.stop, ada.organization_id, ada.id)
    row(page, ada, "stopped")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    eventually(lambda: focused(page) == f"delete-{ada.id}", "the button has the focus")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(f"#instance-{ada.id}").wait_for(state="detached")
    # What was focused is gone with its line.
    eventually(lambda: focused(page) == "main", "the page has the focus")


def told(page: Page, words: str) -> None:
    """Returns once that is told twice: by the answer, and by the stream for who cannot see."""
    page.locator("#notice").get_by_text(words).wait_for()
    page.locator("#announcement").get_by_text(words).wait_for(state="attached")


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.id")
    return found


def tab_to(page: Page, element_id: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == element_id:
            return
    pytest.fail(f"{element_id} is not reached by Tab")


def test_calls_and_conversations_are_in_nobodys_way(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    call = served.call(answered, served, ada)
    for place in (served.world.programs, served.world.beside):
        place.answers["list"] = done(sessions=[{"key": "agent:main:irc:5", "updated_at": 1000}])
        parts = [{"type": "text", "text": "Which way is north?"}]
        said = {"position": 1, "role": "user", "at": 0, "parts": parts}
        place.answers["read"] = done(is_known=True, messages=[said], has_more=True)
    served.world.feature(Breakpoints).put(ada.id, BreakpointMatch(), once=True)
    body = json.dumps({"model": "gpt-4o", "input": "Which way?", "instructions": "Be short."})
    held = served.world.call_log.begin(
        ada.organization_id, ada.id, "openai", "responses", body.encode()
    )
    served.call(served.world.feature(Breakpoints).hold, held.request, held)
    for path, words in (
        ("/model-calls", "Which way is north?"),
        (f"/model-calls/{call}", "Replay as script"),
        (f"/model-calls/{held.id}", "Answer instead"),
        (f"/instances/{ada.id}", "New conversation"),
    ):
        page.goto(f"{served.root_url}{path}")
        page.get_by_text(words).first.wait_for()
        judge_in_all_looks(page)
        open_all(page)
        judge_in_all_looks(page)


def test_a_command_that_waits_is_shown_and_approved(page: Page, served: Served) -> None:
    ada, world = served.created("Ada"), served.world
    world.programs.answers |= {
        "list": done(sessions=[]),
        "read": done(is_known=True, messages=[], has_more=False),
    }
    request = {"command": "rm -rf build", "allowedDecisions": ["allow-once", "deny"]}
    asked = {"id": "a-1", "createdAtMs": 1_000, "expiresAtMs": 2_000, "request": request}
    world.gateway.rpc_answers[openclaw.LIST] = ok([asked])
    told_by_gateway = {"events": [{"event": openclaw.REQUESTED, "payload": asked}]}
    served.call(world.gateway_events.receive, ada.sandbox_id, json.dumps(told_by_gateway).encode())
    page.get_by_role("link", name="1 waits for approval").click()
    approve = page.get_by_role("button", name="Approve rm -rf build")
    approve.wait_for()
    judge_in_all_looks(page)
    world.gateway.rpc_answers[openclaw.LIST] = [ok([asked]), ok([])]
    approve.click()
    page.locator("#notice").get_by_text("The command runs.").wait_for()
    approve.wait_for(state="detached")
    assert world.gateway.called(openclaw.RESOLVE) == [{"id": "a-1", "decision": "allow-once"}]


def test_calls_that_came_before_the_page_listens_are_in_the_list(
    page: Page, served: Served
) -> None:
    ada = served.created("Ada")
    before = served.call(answered, served, ada)
    calls: list[str] = []

    def meanwhile(route: Route) -> None:
        calls.append(served.call(answered, served, ada))
        route.continue_()

    page.route("**/model-calls/live*", meanwhile, times=1)
    page.goto(f"{served.root_url}/model-calls")
    page.locator(f"#call-{before}").wait_for()
    eventually(lambda: bool(calls), "the page listens")
    page.locator(f"#call-{calls[0]}").wait_for()
    assert page.locator("#rows tr").first.get_attribute("id") == f"call-{calls[0]}"


async def answered(served: Served, instance: Instance) -> str:
    """The id of a model call of the instance, which is over."""
    message = {"role": "user", "content": "Which way is north?"}
    tool = {"type": "function", "function": {"name": "exec", "parameters": {"type": "object"}}}
    asked = {"model": "gpt-4o", "messages": [message], "tools": [tool]}
    said = {"choices": [{"message": {"role": "assistant", "content": "Up."}}]}
    call_log = served.world.call_log
    made = call_log.begin(
        instance.organization_id, instance.id, "openai", "v1/chat/completions",
        json.dumps(asked).encode(), "t1",
    )  # fmt: skip
    call_log.append(made, json.dumps(said).encode())
    made.status = 200
    made.finish("answered")
    return made.id


def test_a_page_of_which_a_file_did_not_come_is_loaded_again(
    browser: Browser, served: Served
) -> None:
    with visit(browser, served) as page:
        page.route("**/htmx.min.*", lambda route: route.abort(), times=1)
        provoke(page, "ERR_FAILED")
        page.goto(f"{served.root_url}/")
        row(page, served.created("Ada"))


def test_signing_out_ends_it_in_every_tab(page: Page, served: Served) -> None:
    other = page.context.new_page()
    other.goto(f"{served.root_url}/")
    other.get_by_role("heading", name="Instances").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    # The other tab finds out with the next thing that is told; two of them come, and a second way
    # to the same page breaks off the first, which `wait_for_url` would take for a failure.
    served.created("Ada")
    expect(other).to_have_url(f"{served.root_url}/sign-in?next=/")
    assert served.world.key not in page.content()


def test_a_copied_line_is_in_the_clipboard(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the base URL").click()
    page.get_by_role("button", name="Copied the base URL").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "http://server.test/v1"


def test_a_thousand_instances_and_their_changes_are_bearable(page: Page, served: Served) -> None:
    latest = served.call(placed, served, 1000)
    page.get_by_text("1000 all").wait_for()
    row(page, latest)
    page.reload()
    lines = page.locator("#rows tr")
    eventually(lambda: lines.count() == PORTION, "there is the first portion")
    page.get_by_role("link", name="Show more").click()
    eventually(lambda: lines.count() == 2 * PORTION, "there is the second one")
    assert lines.last.get_attribute("id") == "instance-instance-900"

    async def changed() -> None:
        for _ in range(2000):
            served.world.events.publish(
                EventType.INSTANCE_STATUS, latest.organization_id, latest.id,
                status="stopped", before="running", error_message=None,
            )  # fmt: skip
            await asyncio.sleep(0)

    page.evaluate("window.swaps = 0; addEventListener('htmx:sseMessage', () => window.swaps++)")
    served.call(changed)
    page.get_by_role("status").get_by_text("Ada is stopped.").wait_for(state="attached")
    # Each is told of by what comes of it, not by itself.
    assert page.evaluate("window.swaps") < 100


async def placed(served: Served, count: int) -> Instance:
    """The latest of so many stopped instances, the only one that is told of."""
    world = served.world
    first = await world.placed(InstanceStatus.STOPPED, 0)
    async with world.database.writing() as session:
        row = await session.get_one(InstanceRow, first.id)
        for number in range(1, count - 1):
            world.clock.advance(1)
            of_its_own = {"id": f"instance-{number}", "sandbox_id": f"chowder-{number:012x}"}
            copy = row.model_dump() | of_its_own | {"created_at": world.clock.now}
            session.add(InstanceRow(**copy))
    world.clock.advance(1)
    return await world.placed(InstanceStatus.STOPPED, count - 1)


def test_health_is_not_known_while_the_server_is_away(page: Page, served: Served) -> None:
    verdict = page.locator("#verdict")
    verdict.locator(".facts").wait_for()
    page.get_by_text("Passed checks").click()
    page.locator("#findings li").first.wait_for()
    page.route("**/health", lambda route: route.abort("connectionrefused"))
    provoke(page, "net::ERR_CONNECTION_REFUSED")
    with page.expect_event("requestfailed"):
        served.created("Ada")
    page.get_by_text("The server does not answer.").wait_for()
    verdict.get_by_text("Unknown while the server does not answer").wait_for()
    assert verdict.locator(".good").count() == 0
    assert page.locator("#findings li").count() == 0
    page.unroute("**/health")
    # Another answer of any kind is the sign that it is back.
    page.get_by_role("searchbox").fill("ad")
    verdict.locator(".facts").wait_for()
    page.get_by_text("The server does not answer.").wait_for(state="detached")
