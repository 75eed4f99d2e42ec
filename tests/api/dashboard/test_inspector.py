"""The inspector: the list of model calls, one call in full, and its actions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.fault_injection import FaultKind
from chowder_local.dashboard.model_calls import PORTION
from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints
from chowder_local.instances.conversations.trace_log import TracedTurn, TurnStatus
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.wire.conversation import Reply, ToolCall
from tests.api.dashboard.conftest import Elements
from tests.scripted.model_calls import parse

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import ModelCall
    from tests.api.dashboard.conftest import Visitor

PATH = "v1/chat/completions"


def model_request(words: str, model: str = "gpt-4o") -> dict[str, Any]:
    system = {"role": "system", "content": "You are an agent."}
    tool = {"type": "function", "function": {"name": "exec", "parameters": {"type": "object"}}}
    messages = [system, {"role": "user", "content": words}]
    return {
        "model": model, "messages": messages, "tools": [tool],
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def called(
    visitor: Visitor,
    agent: Instance,
    words: str = "Which way is north?",
    *,
    reply: Reply | None = None,
    status: int = 200,
    error: str | None = None,
    path: str = PATH,
    turn_id: str | None = None,
) -> ModelCall:
    """Adds a call of an agent; without a reply it stays open."""
    body = json.dumps(model_request(words)).encode()
    call_log = visitor.http.world.call_log
    made = call_log.begin(
        agent.organization_id, agent.id, ModelProvider.OPENAI, path, body, turn_id
    )
    if reply is not None or error is not None:
        made.status, made.source = status, "offline"
        if reply is not None:
            for step in parse(ModelProvider.OPENAI, PATH, body).render(reply).steps:
                assert isinstance(step, bytes)
                call_log.append(made, step)
        made.finish("refused" if error else "offline", error)
    return made


def listed(html: str) -> list[str]:
    rows = [each["id"] or "" for each in Elements(html).all("tr") if "data-outcome" in each]
    return [each.removeprefix("call-") for each in rows]


async def test_calls_are_listed_latest_first(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    first = called(visitor, agent, "One", reply=Reply("1"))
    second = called(visitor, agent, "Two")
    html = (await visitor.get("/model-calls")).text
    assert listed(html) == [second.id, first.id]
    assert "answering" in html
    assert agent.name in html


SEARCHES: list[tuple[dict[str, str], list[int]]] = [
    ({"q": "NORTH"}, [0]),
    ({"q": "slow down"}, [1]),
    ({"q": "gpt-4o"}, [1, 0]),
    ({"status": "failed"}, [1]),
    ({"status": "ok"}, [0]),
    ({"status": "running"}, []),
    ({"model": "gpt-4o", "status": ""}, [1, 0]),
    ({"model": "gpt-5"}, []),
    ({"instance": "another"}, []),
    ({"q": "%"}, []),
]


async def test_calls_are_searched(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    made = [
        called(visitor, agent, "Which way is north?", reply=Reply("Up.")),
        called(visitor, agent, "And south?", status=429, error="Slow down."),
    ]
    wrong = []
    for query, found in SEARCHES:
        answer = await visitor.http.client.get("/model-calls", params=query)
        if (got := listed(answer.text)) != [made[each].id for each in found]:
            wrong.append((query, got))
    assert not wrong


async def test_more_rows_are_loaded_by_a_link(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    made = [called(visitor, agent, str(each)).id for each in range(PORTION + 3)][::-1]
    first = (await visitor.get("/model-calls")).text
    assert listed(first) == made[:PORTION]
    (more,) = [each for each in Elements(first).all("a") if "hx-select-oob" in each]
    assert listed((await visitor.get(more["href"] or "")).text) == made[PORTION:]


async def test_a_calls_page_shows_request_and_response(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    reply = Reply("Let me look.", (ToolCall("c1", "exec", {"command": "date"}),))
    made = called(visitor, agent, reply=reply, turn_id="t1")
    other = called(visitor, agent, "Again", turn_id="t1")
    html = (await visitor.get(f"/model-calls/{made.id}")).text
    for words in ("You are an agent.", "Which way is north?", "Let me look.", "tokens", "exec"):
        assert words.lower() in html.lower()
    assert "{&#34;command&#34;: &#34;date&#34;}" in html
    assert f"/model-calls/{other.id}" in html
    assert "$OPENAI_API_KEY" in html


async def test_a_calls_page_has_its_turn_as_a_timeline(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    reply = Reply("", (ToolCall("c1", "exec", {"command": "date"}),))
    first, last = called(visitor, agent, reply=reply), called(visitor, agent)
    turn = TracedTurn(
        "request-1", agent.id, MAIN_KEY, first.at, 0.0, 2.0, TurnStatus.ANSWERED,
        ended_calls=(first.id, last.id),
    )  # fmt: skip
    visitor.http.world.traces.add(turn)
    html = (await visitor.get(f"/model-calls/{last.id}")).text
    (table,) = re.findall(r"<table class=.timeline.*?</table>", html, re.DOTALL)
    assert re.findall(r"/model-calls/(ex-[0-9]+)", table) == [first.id, last.id]
    assert "tool <code>exec</code>" in table
    assert table.count("<rect") == 3
    assert f"/instances/{agent.id}" in html
    alone = called(visitor, agent)
    assert "timeline" not in (await visitor.get(f"/model-calls/{alone.id}")).text


async def test_a_call_becomes_the_first_rule_of_the_agents_script(
    visitor: Visitor,
) -> None:
    agent = await visitor.http.world.created()
    scripts = visitor.http.world.scripts
    for words in ("One", "Two"):
        made = called(visitor, agent, words, reply=Reply(f"{words}!"))
        answer = await visitor.post(f"/model-calls/{made.id}/script")
        assert answer.status_code == 200, answer.text
    running = scripts.get(agent.id)
    assert running is not None
    assert [each.match.text for each in running.script.replies] == ["Two", "One"]
    assert [each.reply for each in running.script.replies] == ["Two!", "One!"]


async def test_the_next_message_fails_on_request(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    made = called(visitor, agent, reply=Reply("Up."))
    assert (await visitor.post(f"/model-calls/{made.id}/fail")).status_code == 200
    (fault,) = visitor.http.world.faults.of_organization(agent.organization_id)
    assert (fault.draft.kind, fault.draft.instance_id, fault.draft.status) == (
        FaultKind.MESSAGE, agent.id, 502,
    )  # fmt: skip


async def test_the_former_address_of_the_page_still_works(visitor: Visitor) -> None:
    assert (await visitor.get("/inspector")).status_code == 200


@pytest.mark.parametrize("path", ["/model-calls/ex-99", "/model-calls/none"])
async def test_an_unknown_call_is_not_found(visitor: Visitor, path: str) -> None:
    assert (await visitor.get(path)).status_code == 404


async def test_a_call_without_a_conversation_is_shown(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    made = called(visitor, agent, reply=Reply("x"), path="v1/embeddings")
    html = (await visitor.get(f"/model-calls/{made.id}")).text
    assert "This is not a conversation." in html


async def test_a_retry_links_to_the_attempt_before_it(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    called(visitor, agent, turn_id="another", error="Slow down.")
    first = called(visitor, agent, turn_id="t", error="Slow down.")
    second = called(visitor, agent, turn_id="t", reply=Reply("Up."))
    second.retry(429, 1.5)
    second.retry(None)
    html = (await visitor.get("/model-calls")).text
    assert html.count("attempt") == 1
    assert "4th attempt" in html
    html = (await visitor.get(f"/model-calls/{second.id}")).text
    assert f'/model-calls/{first.id}">{first.id}</a>, which failed' in html
    assert "offline answered 429, retry after 1.5 s" in html
    assert "no answer" in html
    assert "attempt" not in (await visitor.get(f"/model-calls/{first.id}")).text


async def test_a_call_is_held_and_goes_on_by_the_forms(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    world = visitor.http.world
    for form, how in (
        ({}, "continued"),
        ({"body": json.dumps(model_request("Which way is south?"))}, "edited"),
        ({"body": json.dumps(model_request("Which way is north?"))}, "continued"),
        ({"text": "Which way is north?", "system": "You are an agent."}, "continued"),
        ({"text": "Which way is east?"}, "edited"),
        ({"system": "You are a sailor."}, "edited"),
        ({"how": "answer", "answer": "That way."}, "answered"),
        ({"error": "429"}, "failed"),
    ):
        assert "is held" in (await visitor.post(f"/instances/{agent.id}/hold")).text
        call = called(visitor, agent)
        held = await world.feature(Breakpoints).hold(call.request, call)
        assert held is not None
        page = (await visitor.get(f"/model-calls/{call.id}")).text
        assert "Answer instead" in page
        assert ">held</span>" in (await visitor.get("/model-calls")).text
        answer = await visitor.post(f"/model-calls/{call.id}/release", form)
        assert answer.headers["HX-Redirect"] == f"/model-calls/{call.id}"
        release = await held.released()
        assert release.how == how
        for word in ("east", "sailor"):
            assert (word in str(release.content)) is (word in str(form))
        assert "Answer instead" not in (await visitor.get(f"/model-calls/{call.id}")).text
    call = called(visitor, agent)
    for form in ({"body": "{"}, {"how": "answer", "answer": " "}):
        broken = await visitor.post(f"/model-calls/{call.id}/release", form)
        assert broken.status_code == 422


async def test_a_held_call_shows_what_would_turn_or_hide_its_text(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    await visitor.post(f"/instances/{agent.id}/hold")
    call = called(visitor, agent, "rm \u202ex\u200b")
    held = await visitor.http.world.feature(Breakpoints).hold(call.request, call)
    assert held is not None
    page = (await visitor.get(f"/model-calls/{call.id}")).text
    shown = r"rm \u202ex\u200b"
    assert shown in page
    assert "\u202e" not in page
    await visitor.post(f"/model-calls/{call.id}/release", {"text": shown})
    assert (await held.released()).how == "continued"


async def test_a_breakpoint_is_shown_and_removed(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    breakpoints = visitor.http.world.feature(Breakpoints)
    assert "Remove the breakpoint" not in (await visitor.get(f"/instances/{agent.id}")).text
    breakpoints.put(agent.id, BreakpointMatch(text="<weather>", call_number=2), once=False)
    shown = (await visitor.get(f"/instances/{agent.id}/files")).text
    assert "Holds each call with text &lt;weather&gt;, call number 2<" in shown
    removed = (await visitor.post(f"/instances/{agent.id}/breakpoint/remove")).text
    assert "Remove the breakpoint" not in removed
    assert breakpoints.of_instance(agent.id) is None


def traced(visitor: Visitor, turn_id: str, *calls: ModelCall) -> None:
    instance_id = calls[0].instance_id
    assert instance_id is not None
    visitor.http.world.traces.add(
        TracedTurn(
            turn_id, instance_id, MAIN_KEY, calls[0].at, 0.0, 2.0, TurnStatus.ANSWERED,
            organization_id=calls[0].organization_id, ended_calls=tuple(e.id for e in calls),
            text="Which way?",
        )
    )  # fmt: skip


async def test_two_runs_are_compared_step_by_step(visitor: Visitor) -> None:
    agent = await visitor.http.world.created()
    long = "<b>x</b>" * 100
    traced(visitor, "turn-1", called(visitor, agent, reply=Reply(f"{long} north")))
    traced(visitor, "turn-2", called(visitor, agent, reply=Reply(f"{long} south")))
    form = (await visitor.get("/diff")).text
    for words in ("turn-1", "turn-2", agent.id, "answered: Which way?"):
        assert words in form
    html = (await visitor.get("/diff?a=turn-1&b=turn-2")).text
    assert "1 of 5 steps differ." in html
    assert re.findall(r'<tr role="row" class="step-([a-z-]+)">', html) == [*["same"] * 4, "differs"]
    # The excerpts are about the difference, and nothing in them is markup.
    for words in ("north</code>", "south</code>", "&lt;b&gt;x&lt;/b&gt;", "/model-calls/ex-1"):
        assert words in html
    assert "<b>" not in html
    assert "The steps are the same." in (await visitor.get("/diff?a=turn-1&b=turn-1")).text
    assert "is no turn, agent or session" in (await visitor.get("/diff?a=turn-1&b=x")).text
    await visitor.http.world.recordings.put(agent.id, {})
    assert f"recording:{agent.id}" in (await visitor.get("/diff")).text
