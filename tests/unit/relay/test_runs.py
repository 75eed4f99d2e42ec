"""Runs: what is compared of them, and what is left out of their files."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import InstanceId, ModelProvider
from chowder_local.core.secrets import REDACTED
from chowder_local.relay.call_log import CallLog, ModelCall
from chowder_local.relay.recordings import RecordedAnswer, RecordedCall, RecordedRequest
from chowder_local.relay.runs import Run, RunTurn, StepKind, compare, run_calls
from chowder_local.relay.wire.conversation import Reply, ToolCall
from tests.scripted.model_calls import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "v1/chat/completions"
SYSTEM = {"role": "system", "content": "You are an agent."}
USER = {"role": "user", "content": "How many are left?"}
LOOK = ToolCall("c1", "exec", {"command": "count"})
CALLED = {
    "role": "assistant",
    "tool_calls": [
        {"id": "c1", "type": "function",
         "function": {"name": "exec", "arguments": '{"command": "count"}'}},
    ],
}  # fmt: skip


def called(
    log: CallLog, *messages: Any, reply: Reply | None = None, error: str | None = None
) -> ModelCall:
    """A call that gets this reply, or fails."""
    body = json.dumps({"model": "gpt-4o", "messages": [SYSTEM, *messages], "stream": True,
                       "tools": [{"type": "function", "function": {"name": "exec"}}],
                       "stream_options": {"include_usage": True}}).encode()  # fmt: skip
    call = log.begin(None, InstanceId("i"), ModelProvider.OPENAI, PATH, body)
    call.source = "offline"
    if reply is not None:
        call.status, call.content_type = 200, "text/event-stream"
        for step in parse(ModelProvider.OPENAI, PATH, body).render(reply).steps:
            assert isinstance(step, bytes)
            log.append(call, step)
    elif error is not None:
        call.status = 429
    call.finish("offline" if error is None else "refused", error)
    call.took_s = 0.5
    return call


def run_of(calls: Sequence[ModelCall], secrets: set[str] | None = None) -> Run:
    turn = RunTurn(
        id="t", session_key="agent:main:main", took_s=2.0, calls=run_calls(calls, secrets)
    )
    return Run(title="a run", turns=[turn])


def counting(result: str, answer: str) -> Run:
    """A turn in which the agent counts with a tool."""
    log = CallLog()
    returned = {"role": "tool", "tool_call_id": "c1", "content": result}
    first = called(log, USER, reply=Reply(calls=(LOOK,)))
    last = called(log, USER, CALLED, returned, reply=Reply(answer))
    last.at = first.at + timedelta(seconds=1.5)
    return run_of([first, last])


def test_each_step_of_a_turn_is_compared_once() -> None:
    found = compare(counting("3 of 12:30", "There are 3."), counting("3 of 12:31", "There are 4."))
    kinds = [(each.status, each.title) for each in found.rows]
    assert kinds == [
        ("same", "system prompt"),
        ("same", "tools"),
        ("same", "message"),
        ("same", "model call"),
        ("same", "tool call exec"),
        # A time does not count.
        ("same", "tool result exec"),
        ("same", "model call"),
        ("differs", "answer"),
    ]
    assert not found.is_same
    tool = found.rows[4].a
    assert tool is not None
    assert (tool.text, tool.took_s, tool.figures) == ('{"command": "count"}', 1.0, "1.00 s")
    totals, _ = found.totals
    assert (totals.model_calls, totals.tool_calls, totals.cost_usd, totals.took_s) == (2, 1, 0, 2)
    shown = found.as_json()
    assert shown["a"]["run"] == "a run"
    assert shown["steps"][-1]["b"]["text"] == "There are 4."


def test_a_step_that_one_run_alone_has_stands_beside_none() -> None:
    log = CallLog()
    short = run_of([called(log, USER, reply=Reply("There are 3."))])
    found = compare(counting("3", "There are 3."), short)
    alone = [each.title for each in found.rows if each.status == "only_a"]
    assert alone == ["tool call exec", "tool result exec", "model call"]
    assert compare(short, counting("3", "There are 3.")).rows[4].status == "only_b"


def test_an_excerpt_is_about_the_first_character_that_differs() -> None:
    found = compare(counting("3", "x" * 90 + "a tail"), counting("3", "x" * 90 + "b tail"))
    assert found.rows[-1].excerpts(40) == (f"…{'x' * 20}a tail", f"…{'x' * 20}b tail")
    assert found.rows[0].excerpts(9) == ("You are a…", "You are a…")


def test_long_runs_are_compared_in_order_after_what_is_aligned() -> None:
    log = CallLog()
    runs = [
        run_of([called(log, {"role": "user", "content": f"{name} {each}"}, reply=Reply("Yes."))
                for each in range(400)])
        for name in ("one", "two")
    ]  # fmt: skip
    found = compare(*runs)
    assert {each.status for each in found.rows if each.title == "message"} == {"differs"}
    assert len([each for each in found.rows if each.title == "answer"]) == 400


def test_a_failed_call_is_kept_with_its_error() -> None:
    why = "The model provider openai answered 429: Slow down."
    run = run_of([called(CallLog(), USER, error=why)])
    (call,) = run.turns[0].calls
    assert call.answered is not None
    assert (call.answered.status, call.output.error) == (429, "Slow down.")
    errors = [each.a for each in compare(run, run).rows if each.title == "error"]
    assert [each and each.text for each in errors] == [why]
    assert compare(run, run).totals[0].input_tokens == 0


def test_a_call_whose_answer_is_too_long_has_none() -> None:
    log = CallLog()
    call = called(log, USER, reply=Reply("Hi"))
    call.answer_bytes += 1
    assert run_of([call]).turns[0].calls[0].answered is None


def test_what_is_no_conversation_is_no_call_of_a_run() -> None:
    call = CallLog().begin(None, InstanceId("i"), ModelProvider.OPENAI, "embeddings", b"{}")
    call.finish("answered")
    assert run_of([call]).turns[0].calls == []


def test_a_file_has_no_secret_also_if_a_stream_has_it_in_pieces() -> None:
    secret = 'correct "horse" battery'
    reply = Reply(f"It is {secret}.", (ToolCall("c1", "exec", {"key": f"a {secret}"}),))
    said = {"role": "user", "content": f"My password is {secret}, my key sk-abcdefgh12."}
    call = called(CallLog(), said, reply=reply)
    assert json.dumps(secret)[1:-1] not in call.answer.decode()
    run = run_of([call], {secret}).redacted({secret})
    text = run.model_dump_json()
    assert "horse" not in text
    assert "sk-abcdefgh12" not in text
    (kept,) = run.turns[0].calls
    assert kept.output.text == f"It is {REDACTED}."
    assert kept.output.calls[0].arguments == {"key": f"a {REDACTED}"}
    # Without the request there is nothing to write it anew with.
    whole = run_of([call]).redacted({secret})
    assert whole.turns[0].calls[0].answered is None


def test_a_recording_is_a_run_with_costs_at_list_price() -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    answer = {"choices": [{"message": {"content": "Hi"}}], "usage": usage}
    asked = RecordedRequest(provider="openai", model="gpt-4o", is_streamed=False, turns=[{}])
    answered = RecordedAnswer.from_body(200, "application/json", json.dumps(answer).encode())
    run = Run.from_recording("folder", {"1": RecordedCall(asked=asked, answered=answered)})
    found = compare(run, run)
    assert [each.a.kind for each in found.rows if each.a] == [StepKind.MODEL, StepKind.ANSWER]
    assert (found.totals[0].cost_usd, found.totals[0].took_s) == (2.5, None)
