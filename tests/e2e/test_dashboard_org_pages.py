"""An organization's pages in real Chromium: keys, usage, faults, replies, recordings, subscription.

What is behind them is real but for the engine, which is scripted: agents here only have states.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
from playwright.sync_api import expect

from chowder_local.instances.conversations.trace_log import TracedTurn, TurnStatus
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.store.usage import Counts, UsageKey
from tests.e2e.dashboards import Served, judge, judge_in_all_looks, open_all, refuse

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import ModelCall


PAGES = ("/organization", "/usage", "/faults", "/faults?kind=call", "/replies", "/subscription",
         "/model-calls")  # fmt: skip


def go(page: Page, served: Served, path: str) -> None:
    page.goto(f"{served.root_url}{path}")


def call(served: Served, agent: Instance, words: str = "Which way is north?") -> ModelCall:
    """A call of a turn of the agent's, which goes on."""

    async def begun() -> ModelCall:
        asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": words}]}
        return served.world.call_log.begin(
            agent.organization_id, agent.id, "openai", "v1/chat/completions",
            json.dumps(asked).encode(), "t1",
        )  # fmt: skip

    made: ModelCall = served.call(begun)
    return made


def end(served: Served, call: ModelCall, status: int, error: str | None = None) -> None:
    async def ended() -> None:
        call.status = status
        if error is None:
            said = {"choices": [{"message": {"role": "assistant", "content": "Up."}}]}
            served.world.call_log.append(call, json.dumps(said).encode())
        call.finish("answered" if error is None else "refused", error)

    served.call(ended)


def trace(served: Served, agent: Instance, turn_id: str, call: ModelCall) -> None:
    """A turn of the agent's with one call."""

    async def added() -> None:
        turn = TracedTurn(
            turn_id, agent.id, MAIN_KEY, call.at, 0.0, 2.0, TurnStatus.ANSWERED,
            organization_id=agent.organization_id, ended_calls=(call.id,),
        )  # fmt: skip
        served.world.traces.add(turn)

    served.call(added)


def spend(served: Served, agent: Instance) -> None:
    async def spent() -> None:
        today = datetime.now(UTC).date()
        for days in range(40):
            for model, is_billed in (("gpt-4o", True), ("lab/tiny", True), ("gpt-4o-mini", False)):
                kind = UsageKey(
                    agent.id, today - timedelta(days=days), "", "openai", model, is_billed
                )
                counts = Counts(calls=2, input_tokens=1_000_000, output_tokens=1000)
                served.world.usage.note(kind, counts)

    served.call(spent)


def test_a_key_is_made_seen_once_used_and_revoked(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    go(page, served, "/organization")
    page.get_by_text("There are no scoped keys yet.").wait_for()
    page.get_by_text("Create a key").click()
    page.get_by_label("Name", exact=True).first.fill("the shop's page")
    refuse(page, 422)
    page.get_by_role("button", name="Create the key").click()
    page.get_by_role("alert").get_by_text("instance_ids").wait_for()
    page.get_by_role("button", name="Dismiss this message").click()
    page.get_by_label("Ada").check()
    page.get_by_role("button", name="Create the key").click()
    page.get_by_role("dialog", name="The key “the shop's page”").wait_for()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the key").click()
    page.get_by_role("button", name="Copied the key").wait_for()
    key = page.evaluate("navigator.clipboard.readText()")
    judge(page)
    page.get_by_role("button", name="Done").click()
    assert key.startswith("chd_sk_")
    expect(page.get_by_text(key)).to_have_count(0)
    path = f"{served.root_url}/v1/instances/{ada.id}"
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(path, headers=headers).status_code == 200
    assert httpx.post(f"{path}/stop", headers=headers).status_code == 403
    page.reload()
    line = page.locator("#rows tr")
    expect(line).to_contain_text("read, interact")
    expect(line).to_contain_text("Ada")
    expect(line.locator("[data-label='Last used']")).not_to_have_text("never")
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("dialog").wait_for(state="hidden")
    assert httpx.get(path, headers=headers).status_code == 200
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.locator("[data-state=revoked]").wait_for()
    assert httpx.get(path, headers=headers).status_code == 401


def test_a_fault_is_set_used_and_taken_back(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    go(page, served, "/faults")
    page.get_by_text("No fault is set.").wait_for()
    page.get_by_label("Applies to").select_option("call")
    page.get_by_label("Path").fill("/v1/nowhere")
    refuse(page, 422)
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_role("alert").get_by_text("No call that needs a key").wait_for()
    page.get_by_role("button", name="Dismiss this message").click()
    page.get_by_label("Path").fill("/v1/instances/{instance_id}")
    page.get_by_label("Method").select_option("GET")
    page.get_by_label("Times").fill("2")
    page.get_by_label("Status").fill("429")
    page.get_by_role("button", name="Set", exact=True).click()
    line = page.locator("#faults tbody tr")
    expect(line).to_contain_text("answers 429, Retry-After 1 s")
    judge(page)
    path = f"{served.root_url}/v1/instances/{ada.id}"
    headers = {"Authorization": f"Bearer {served.world.key}"}
    assert httpx.get(path, headers=headers).status_code == 429
    # The page is told while one looks.
    expect(line.locator("[data-label=Left]")).to_have_text("1 of 2")
    page.get_by_label("Applies to").select_option("stream")
    page.get_by_label("Breaks off after events").fill("3")
    page.get_by_label("Instance").select_option(str(ada.id))
    page.get_by_role("button", name="Set", exact=True).click()
    expect(line).to_have_count(2)
    line.first.get_by_role("button", name="Remove").click()
    expect(line).to_have_count(1)
    assert httpx.get(path, headers=headers).status_code == 200
    line.get_by_role("button", name="Remove").click()
    page.get_by_text("No fault is set.").wait_for()


def test_replies_with_an_error_are_mended_and_then_in_force(page: Page, served: Served) -> None:
    served.created("Ada")
    go(page, served, "/replies")
    script = page.get_by_label("The script, as YAML")
    text = "- match: {text: weather}\n  reply: It is sunny.\n- match: {txt: order}\n  reply: No."
    script.fill(text)
    page.get_by_role("button", name="Put in force").click()
    problems = page.locator("#problems")
    expect(problems).to_contain_text("replies.1.match.txt")
    judge(page)
    assert script.input_value() == text
    problems.get_by_role("button", name="Line 3").click()
    assert page.evaluate(
        "(({value, selectionStart, selectionEnd}) => value.slice(selectionStart, selectionEnd))"
        "(document.activeElement)"
    ) == "- match: {txt: order}"  # fmt: skip
    script.fill("- match: {text: 'weather}")
    page.get_by_role("button", name="Put in force").click()
    expect(problems).to_contain_text("while scanning a quoted scalar")
    script.fill(text.replace("txt", "text"))
    page.get_by_role("button", name="Put in force").click()
    page.get_by_text("In force: 2 rules.").wait_for()
    expect(problems).to_be_empty()
    expect(page.locator("#rules tbody tr")).to_have_count(2)
    judge(page)
    page.reload()
    expect(script).to_have_value(re.compile("It is sunny"))
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("button", name="Clear them").click()
    page.get_by_text("There are no rules here.").wait_for()


def test_open_pages_follow_faults_and_replies_that_others_change(
    page: Page, served: Served
) -> None:
    headers = {"Authorization": f"Bearer {served.world.key}"}
    with httpx.Client(base_url=served.root_url, headers=headers) as other:
        go(page, served, "/faults")
        other.post("/local/faults", json={"kind": "stop", "status": 503}).raise_for_status()
        expect(page.locator("#faults tbody tr")).to_have_count(1)
        other.delete("/local/faults").raise_for_status()
        page.get_by_text("No fault is set.").wait_for()
        go(page, served, "/replies")
        script = {"replies": [{"match": {"text": "weather"}, "reply": "It is sunny."}]}
        other.put("/local/replies", json=script).raise_for_status()
        expect(page.locator("#rules tbody tr")).to_have_count(1)
        other.delete("/local/replies").raise_for_status()
        page.get_by_text("There are no rules here.").wait_for()


def test_two_runs_are_compared(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    for number, words in enumerate(("Which way is north?", "Which way is south?" + "x" * 2000)):
        made = call(served, ada, words)
        end(served, made, 200)
        trace(served, ada, f"turn-{number}", made)
    go(page, served, "/model-calls")
    page.get_by_role("link", name="Compare two runs").click()
    page.get_by_label("Run A").fill("turn-0")
    page.get_by_label("Run B").fill("turn-1")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("1 of 3 steps differ.").wait_for()
    row = page.get_by_role("row", name="message differs")
    expect(row.get_by_role("cell").first).to_contain_text("Which way is north?")
    expect(row.get_by_role("cell").last).to_contain_text("Which way is south?")
    judge_in_all_looks(page)
    open_all(page)
    judge_in_all_looks(page)


# axe-core judges each page in four looks.
def test_nothing_is_in_the_way_of_anybody(page: Page, served: Served) -> None:
    ada = served.created("Ada" * 40)
    spend(served, ada)
    end(served, call(served, ada), 500, "x" * 200)
    end(served, call(served, ada), 200)
    for path in PAGES:
        go(page, served, path)
        page.get_by_role("heading").first.wait_for()
        judge_in_all_looks(page)
        open_all(page)
        judge_in_all_looks(page)
