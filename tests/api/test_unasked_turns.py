"""Turns that no client's message began: found by their model calls, and shown like any other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import ModelProvider

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import LoggedCall
    from tests.api.conftest import Api

RUNTIME = "Runtime: agent=main | session={} | sessionId=1 | host=agent"
MAIN = "agent:main:main"
CHILD = "agent:main:subagent:1"
REPORT = "[Tue 2026-12-01 02:52 UTC] A background task completed. Use this result to reply"
TASK = "[Tue 2026-12-01 02:52 UTC] [Subagent Context] You are running as a subagent"
TOOL = {"type": "function_call", "call_id": "c", "name": "exec", "arguments": "{}"}


def begin(
    http: Api, instance: Instance, text: str, key: str = MAIN, trace: str = "t-1"
) -> LoggedCall:
    """A model call of the agent, as the relay handles it."""
    turns = [
        {"role": "developer", "content": RUNTIME.format(key)},
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
    ]
    body = json.dumps({"model": "gpt-4o", "input": turns}).encode()
    call = http.world.call_log.begin(
        instance.organization_id, instance.id, ModelProvider.OPENAI, "responses", body, trace
    )
    assert http.world.session_watch.note(instance.sandbox_id, call)
    return call


def end(http: Api, call: LoggedCall, text: str = "", *calls: Any, outcome: str = "offline") -> None:
    content = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
    answer = {"object": "response", "output": [*(content if text else []), *calls]}
    http.world.call_log.append(call, json.dumps(answer).encode())
    call.finish(outcome)


async def traces(http: Api, instance: Instance) -> list[dict[str, Any]]:
    # The turn of a call ends in a task of its own.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    listed: list[dict[str, Any]] = (await http.get(f"/local/instances/{instance.id}/traces")).json()
    return listed


async def test_a_turn_ends_with_the_answer_that_asks_for_no_tool(http: Api) -> None:
    instance = await http.world.created()
    first = begin(http, instance, "[cron:1 daily] It is nine", "agent:main:cron:1")
    end(http, first, "", TOOL)
    (turn,) = await traces(http, instance)
    assert (turn["kind"], turn["job"], turn["status"]) == ("job", "daily", "in_progress")
    end(http, begin(http, instance, "a result", "agent:main:cron:1"), "It is done.")
    (turn,) = await traces(http, instance)
    assert (turn["status"], turn["model_calls"]) == ("answered", 2)
    assert turn["session_key"] == "agent:main:cron:1"
    shown = await http.get(f"/local/instances/{instance.id}/traces/{turn['id']}")
    assert [each["kind"] for each in shown.json()["steps"]] == ["model_call", "tool", "model_call"]


async def test_a_sub_agent_and_its_report_are_turns_although_they_have_the_messages_trace(
    http: Api,
) -> None:
    instance = await http.world.created()
    watch = http.world.session_watch
    with watch.watching(instance.sandbox_id, MAIN, None, "Look") as message:
        begin(http, instance, "[Tue 2026-12-01 02:52 UTC] Look")
        begin(http, instance, TASK, CHILD)
    with watch.watching(instance.sandbox_id, MAIN, None, "And?") as waiting:
        end(http, begin(http, instance, REPORT), "It is cheese.")
    assert [len(each.calls) for each in (message, waiting)] == [1, 0]
    report, task = await traces(http, instance)
    assert (report["kind"], report["session_key"]) == ("subagent", MAIN)
    assert (task["kind"], task["session_key"]) == ("subagent", CHILD)


async def test_a_message_that_quotes_openclaw_keeps_its_model_calls(http: Api) -> None:
    instance = await http.world.created()
    watch = http.world.session_watch
    with watch.watching(instance.sandbox_id, MAIN, None, REPORT[27:]) as message:
        begin(http, instance, REPORT)
    assert len(message.calls) == 1
    assert await traces(http, instance) == []


async def test_work_for_a_message_begins_no_turn(http: Api) -> None:
    instance = await http.world.created()
    watch = http.world.session_watch
    with watch.watching(instance.sandbox_id, MAIN, None, "Hello"):
        begin(http, instance, "summarize", "agent:main:x:internal-session-effects:y", "t-1")
        begin(http, instance, "[Tue 2026-12-01 02:52 UTC] Hello", trace="t-1")
    # Its client has left, and the agent calls the model once more.
    begin(http, instance, "[Tue 2026-12-01 02:52 UTC] Hello", trace="t-1")
    assert await traces(http, instance) == []
