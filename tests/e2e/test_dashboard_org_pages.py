"""An organization's pages in real Chromium: keys, usage, faults, replies, recordings, subscription.

What is behind them is real but for the engine, which is scripted: agents here only have states.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from chowder_local.store.usage import Counts, UsageKey
from tests.e2e.dashboards import Served, judge, judge_in_all_looks, open_all, refuse
from tests.scripted.programs import done

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import LoggedCall

pytestmark = pytest.mark.slow

PAGES = ("/organization", "/usage", "/faults", "/faults?kind=call", "/recordings", "/subscription",
         "/model-calls")  # fmt: skip
HUGE = 1_500_000
"""Characters of a message that no page bears."""


def go(page: Page, served: Served, path: str) -> None:
    page.goto(f"{served.root_url}{path}")


def call(served: Served, agent: Instance, words: str = "Which way is north?") -> LoggedCall:
    """A call of a turn of the agent's, which goes on."""

    async def begun() -> LoggedCall:
        asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": words}]}
        return served.world.call_log.begin(
            agent.organization_id, agent.id, "openai", "v1/chat/completions",
            json.dumps(asked).encode(), "t1",
        )  # fmt: skip

    made: LoggedCall = served.call(begun)
    return made


def end(served: Served, call: LoggedCall, status: int, error: str | None = None) -> None:
    async def ended() -> None:
        call.status = status
        if error is None:
            said = {"choices": [{"message": {"role": "assistant", "content": "Up."}}]}
            served.world.call_log.append(call, json.dumps(said).encode())
        call.finish("answered" if error is None else "refused", error)

    served.call(ended)


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


def test_the_organization_is_renamed_and_its_model_keys_are_set_and_cleared(
    page: Page, served: Served
) -> None:
    go(page, served, "/organization")
    page.locator("#name").fill("Galley")
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("heading", name="Galley").wait_for()
    page.locator("#who").get_by_text("Galley, crab").wait_for()
    gemini = page.locator("#model-key-gemini")
    expect(gemini).to_contain_text("not set")
    gemini.get_by_role("textbox").fill("AIza-secret")
    gemini.get_by_role("button", name="Set").click()
    page.get_by_text("The key for gemini is set.").wait_for()
    assert "AIza-secret" not in page.content()
    gemini.get_by_role("button", name="Clear").click()
    page.get_by_role("dialog", name="Clear the key for gemini?").wait_for()
    page.get_by_role("button", name="Clear it").click()
    expect(gemini).to_contain_text("not set")


def test_usage_is_drawn_and_told_for_a_range(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    go(page, served, "/usage")
    page.get_by_text("There were no model calls in this time.").wait_for()
    spend(served, ada)
    page.reload()
    totals = page.locator(".totals")
    expect(totals).to_contain_text("180")
    expect(totals).to_contain_text("90,000,000")
    # 30 days of a million tokens at $2.50 and a thousand at $10, and nothing for the others.
    expect(totals).to_contain_text("$75.30")
    expect(totals).to_contain_text("without lab/tiny")
    chart = page.get_by_role("img", name="Calls: 180 in all, 6 at most")
    assert chart.locator("rect").count() == 90
    page.get_by_text("Show as a table").click()
    assert page.get_by_role("table", name="Usage by day").locator("tbody tr").count() == 30
    expect(page.locator("#models tr", has_text="lab/tiny")).to_contain_text("not known")
    page.get_by_role("link", name="7 days").click()
    expect(totals).to_contain_text("42")
    page.wait_for_url("**/usage?range=7d")
    page.get_by_role("link", name="A year").click()
    expect(totals).to_contain_text("240")
    page.locator("#instances").get_by_role("link", name="Ada").click()
    page.get_by_text("Only Ada.").wait_for()
    expect(totals).to_contain_text("240")


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
    go(page, served, "/recordings")
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
        go(page, served, "/recordings")
        script = {"replies": [{"match": {"text": "weather"}, "reply": "It is sunny."}]}
        other.put("/local/replies", json=script).raise_for_status()
        expect(page.locator("#rules tbody tr")).to_have_count(1)
        other.delete("/local/replies").raise_for_status()
        page.get_by_text("There are no rules here.").wait_for()


def test_an_agent_is_answered_from_its_calls_and_from_a_file(
    page: Page, served: Served, tmp_path: Path
) -> None:
    ada = served.created("Ada")
    go(page, served, "/recordings")
    line = page.locator(f"#recording-{ada.id}")
    made = call(served, ada)
    end(served, made, 200)
    with page.expect_download() as download:
        line.get_by_role("link", name="Download").click()
    file = tmp_path / "recording.json"
    download.value.save_as(file)
    line.get_by_role("button", name="Replay these").click()
    expect(line).to_contain_text("a recording of 1")
    line.get_by_role("button", name="Stop").click()
    expect(line).to_contain_text("its models")
    line.get_by_role("button", name="Load").click()
    page.get_by_label("Recording", exact=True).set_input_files(file)
    judge(page)
    page.get_by_role("dialog").get_by_role("button", name="Load").click()
    expect(line).to_contain_text("a recording of 1")


def test_a_tier_is_changed_by_the_contracts_own_pages(page: Page, served: Served) -> None:
    go(page, served, "/subscription")
    page.get_by_role("button", name="Move to lobster").click()
    page.get_by_role("heading", name="Move to lobster").wait_for()
    judge(page)
    page.get_by_role("button", name="Pay nothing and move to lobster").click()
    page.get_by_role("link", name="The subscription on the dashboard").click()
    page.get_by_role("heading", name="lobster").first.wait_for()
    page.get_by_text("active").wait_for()
    page.get_by_role("button", name="Change or cancel in the portal").click()
    page.get_by_role("button", name="Move to shrimp").wait_for()
    judge(page)


def test_calls_are_filtered_and_an_attempt_is_told_from_the_first(
    page: Page, served: Served
) -> None:
    ada, bea = served.created("Ada"), served.created("Bea")
    failed = call(served, ada)
    end(served, failed, 429, "Slow down.")
    again = call(served, ada)
    other = call(served, bea)
    end(served, other, 200)
    go(page, served, "/model-calls")
    rows = page.locator("#rows tr")
    expect(rows).to_have_count(3)
    expect(page.locator(f"#call-{again.id}")).to_contain_text(f"2nd attempt, after {failed.id}")
    page.get_by_label("Status").select_option("running")
    expect(rows).to_have_count(1)
    page.wait_for_url("**/model-calls?*status=running*")
    # It leaves the list as it ends, and comes into the one that it is then of.
    end(served, again, 200)
    expect(rows).to_have_count(0)
    page.get_by_label("Status").select_option("ok")
    expect(rows).to_have_count(2)
    page.get_by_label("Agent", exact=True).select_option("Bea")
    expect(rows).to_have_count(1)
    page.get_by_label("Status").select_option("")
    page.get_by_label("Agent", exact=True).select_option("Ada")
    page.get_by_label("Model", exact=True).select_option("gpt-4o")
    expect(rows).to_have_count(2)
    page.locator(f"#open-{again.id}").click()
    page.get_by_text("OpenClaw retries after").get_by_role("link", name=failed.id).click()
    page.get_by_text("Slow down.").first.wait_for()


def test_a_long_conversation_is_read_by_portions(page: Page, served: Served) -> None:
    ada = served.created("Ada")

    def said(position: int, role: str, text: str, **more: Any) -> dict[str, Any]:
        parts = [{"type": "text", "text": text, **more}]
        return {"position": position, "role": role, "at": 0, "parts": parts}

    whole = "tide " * 30_000
    huge = said(61, "assistant", "x" * 4000, is_cut=True, length=HUGE)
    messages = [said(each, "user", f"Message {each}") for each in range(62, 120)]
    latest = [said(60, "assistant", whole[:4000], is_cut=True, length=len(whole)), huge, *messages]
    older = [said(each, "user", f"Message {each}") for each in range(60)]
    place = served.world.programs
    place.answers["list"] = done(sessions=[])
    place.answers["read"] = [
        done(is_known=True, messages=latest, has_more=True),
        done(is_known=True, messages=[said(60, "assistant", whole)], has_more=True),
        done(is_known=True, messages=older, has_more=False),
    ]
    go(page, served, f"/instances/{ada.id}")
    turns = page.locator("#talk > li")
    expect(turns).to_have_count(60)
    assert len(page.content()) < 60_000
    judge(page)
    # What no page bears can only be taken along.
    expect(turns.nth(1)).to_contain_text("1,500,000 characters")
    assert turns.nth(1).get_by_role("button", name="Show all").count() == 0
    turns.nth(1).get_by_role("link", name="Download").wait_for()
    turns.nth(0).get_by_role("button", name="Show all").click()
    expect(turns.nth(0).locator("pre")).to_have_text(whole)
    page.get_by_role("link", name="Older").click()
    expect(turns).to_have_count(120)
    expect(turns.first).to_contain_text("Message 0")
    expect(page.get_by_role("link", name="Older")).to_have_count(0)


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
