"""Talking to an agent in real Chromium: what is seen first, and what an agent may put there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboards import NARROW, SCHEMES, WIDE, Served, judge, judge_in_all_looks
from tests.scripted import gateway as scripted
from tests.scripted.answers import MESSAGE
from tests.scripted.programs import done

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

    from tests.scripted.gateway import ReceivedMessage


ENDS_WITH = "This is the last line."
ANSWER = "\n\n".join(
    [
        "# North",
        "**Up**, as on [maps](https://maps.example/n).",
        "- one\n- two",
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
        "[do not](javascript:document.title='owned')",
        "![seen](https://elsewhere.example/seen.png)",
        "|a|b|\n|---|---|\n|1|2|",
        *(f"Step {number}: go on." for number in range(40)),
        ENDS_WITH,
    ]
)


def said(position: int, role: str, text: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": text}] if text else []
    return {"position": position, "role": role, "at": 0, "parts": parts, **more}


def kept(served: Served, *messages: dict[str, Any]) -> None:
    """What OpenClaw has of the main conversation."""
    served.world.programs.answers["list"] = done(sessions=[])
    served.world.programs.answers["read"] = done(
        is_known=True, messages=list(messages), has_more=False
    )


async def in_pieces(_: ReceivedMessage, __: Any, send: Any) -> None:
    """Streams ANSWER."""
    pieces = [ANSWER[at : at + 30] for at in range(0, len(ANSWER), 30)]
    content = [{"type": "output_text", "text": ANSWER}]
    whole = scripted.RESPONSE | {"output": [MESSAGE | {"content": content}]}
    await scripted.begin(send, 200, "text/event-stream")
    await scripted.events(send, {"type": "response.created", "response": scripted.STARTED})
    await scripted.events(send, *(scripted.DELTA | {"delta": piece} for piece in pieces))
    await scripted.events(send, {"type": "response.completed", "response": whole}, "[DONE]")
    await scripted.end(send)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_opens_at_the_newest_message_and_follows_the_answer(
    page: Page, served: Served, size: ViewportSize
) -> None:
    ada = served.created("Ada")
    kept(served, *(said(each, "user", f"Message {each}\n" * 5) for each in range(60)))
    served.world.gateway.handler = in_pieces
    page.set_viewport_size(size)
    page.goto(f"{served.root_url}/instances/{ada.id}")
    expect(page.locator("#talk > li").last).to_be_in_viewport()
    page.get_by_label("Message", exact=True).first.fill("Which way is north?")
    page.keyboard.press("Enter")
    # What comes is rendered when it is over; then its end is what is seen.
    page.locator("#talk .markdown").get_by_text(ENDS_WITH).wait_for()
    expect(page.locator("#talk .markdown").get_by_text(ENDS_WITH)).to_be_in_viewport()
    # Whoever reads further up is left there.
    page.mouse.move(100, 300)
    page.mouse.wheel(0, -1500)
    expect(page.get_by_text(ENDS_WITH)).not_to_be_in_viewport()
    page.evaluate("document.getElementById('talk').append(document.createElement('li'))")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.get_by_text(ENDS_WITH)).not_to_be_in_viewport()


def test_markdown_is_rendered_and_nothing_in_it_is_active(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    kept(served, said(1, "user", "**me**"), said(2, "assistant", ANSWER))
    asked_elsewhere: list[str] = []
    page.context.on("request", lambda request: asked_elsewhere.append(request.url))
    page.goto(f"{served.root_url}/instances/{ada.id}")
    answer = page.locator("#talk .model .markdown")
    answer.get_by_role("heading", name="North").wait_for()
    expect(answer.locator("li")).to_have_text(["one", "two"])
    link = answer.get_by_role("link", name="maps")
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert answer.locator("script, img").count() == 0
    assert answer.get_by_role("link").count() == 2
    answer.get_by_text("document.title='owned'").first.wait_for()
    # What a person has said is shown as it was typed, and looks like no error.
    mine = page.locator("#talk .user pre")
    expect(mine).to_have_text("**me**")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        red, _, blue = mine.evaluate(
            "pre => getComputedStyle(pre).borderLeftColor.match(/\\d+/g).map(Number)"
        )
        assert red < blue, scheme
    judge_in_all_looks(page)
    assert "owned" not in page.title()
    assert not [each for each in asked_elsewhere if not each.startswith(served.root_url)]


def test_a_turn_that_failed_says_why_after_a_reload(page: Page, served: Served) -> None:
    ada = served.created("Ada")
    kept(
        served,
        said(1, "user", "Which way is north?"),
        said(2, "assistant", "Well, it", error="Rate limit reached."),
    )
    page.goto(f"{served.root_url}/instances/{ada.id}")
    page.locator("#talk .user").get_by_text("failed").wait_for()
    page.locator("#talk .model").get_by_text("Well, it").wait_for()
    page.locator("#talk .model .why").get_by_text("Rate limit reached.").wait_for()
    judge(page)
