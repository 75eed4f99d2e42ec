"""Turns that no client's message began: found by their model calls, and shown like any other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.instances.conversations.trace_log import TurnStatus
from chowder_local.instances.schedule import unasked_turns
from tests.scripted import gateway as scripted
from tests.scripted.programs import done
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from chowder_local.relay.call_log import ModelCall
    from tests.api.conftest import Api

RUNTIME = "Runtime: agent=main | session={} | sessionId=1 | host=agent"
MAIN = "agent:main:main"
CHILD = "agent:main:subagent:1"
REPORT = "[Tue 2026-12-01 02:52 UTC] A background task completed. Use this result to reply"
TASK = "[Tue 2026-12-01 02:52 UTC] [Subagent Context] You are running as a subagent"
TOOL = {"type": "function_call", "call_id": "c", "name": "exec", "arguments": "{}"}


def begin(
    http: Api, instance: Instance, text: str, key: str = MAIN, trace: str = "t-1"
) -> ModelCall:
    """A model call of the agent, as the relay handles it."""
    turns = [
        {"role": "developer", "content": RUNTIME.format(key)},
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
    ]
    # As OpenClaw writes it.
    body = json.dumps({"model": "gpt-4o", "input": turns}, separators=(",", ":")).encode()
    call = http.world.call_log.begin(
        instance.organization_id, instance.id, ModelProvider.OPENAI, "responses", body, trace
    )
    assert http.world.session_watch.note(instance.sandbox_id, call)
    return call


def end(http: Api, call: ModelCall, text: str = "", *calls: Any, outcome: str = "offline") -> None:
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
    # What the agent says is stored first.
    (running,) = http.world.traces.of_instance(instance.id)
    await eventually(lambda: not running.is_open, "the turn ends")
    (turn,) = await traces(http, instance)
    assert (turn["status"], turn["model_calls"]) == ("answered", 2)
    assert running.agent_name == instance.name
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


async def messages(http: Api, instance: Instance, **query: Any) -> dict[str, Any]:
    answer = await http.get(f"/local/instances/{instance.id}/messages", params=query)
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    return listed


async def test_a_report_is_a_message_for_which_a_client_can_wait(http: Api) -> None:
    instance = await http.world.created()
    waiting = asyncio.create_task(messages(http, instance, wait_s=20))
    end(http, begin(http, instance, TASK, CHILD, "t-1"), "It is cheese.")
    end(http, begin(http, instance, "[cron:1 daily] Go", "agent:main:cron:1", "t-2"), "NO_REPLY")
    end(http, begin(http, instance, REPORT, trace="t-3"), "My helper says cheese.")
    listed = await waiting
    (message,) = listed["messages"]
    assert (message["text"], message["kind"]) == ("My helper says cheese.", "subagent")
    assert (message["session"], message["session_key"]) == (None, MAIN)
    assert message["is_reported"]
    assert message["trace_id"] == (await traces(http, instance))[0]["id"]
    (event,) = [each for each in http.world.events.after(0) if each.type == "message.sent"]
    assert event.members["number"] == message["number"]
    assert (await messages(http, instance, after=listed["after"]))["messages"] == []


RESULT = "agent:main:subagent:c76fccf0-84c9-47cd-aafc-10ad7a9f4fcf"


@pytest.mark.parametrize("ending", ["NO_REPLY", "", None])
async def test_a_sub_agents_result_that_is_not_reported_can_be_read(
    http: Api, monkeypatch: pytest.MonkeyPatch, ending: str | None
) -> None:
    monkeypatch.setattr(unasked_turns, "AGAIN_S", 0.0)
    instance = await http.world.created()
    waiting = asyncio.create_task(messages(http, instance, wait_s=20))
    end(http, begin(http, instance, TASK, RESULT, "t-1"), "It is cheese.")
    await traces(http, instance)
    report = begin(http, instance, f"{REPORT}\nsession_key: {RESULT}", trace="t-2")
    if ending is None:
        report.finish("refused", "The provider is down.")
    else:
        end(http, report, ending)
    (message,) = (await waiting)["messages"]
    assert (message["text"], message["is_reported"]) == ("It is cheese.", False)
    assert (message["kind"], message["session_key"]) == ("subagent", MAIN)


async def test_a_summary_for_nobody_is_no_message(http: Api) -> None:
    instance = await http.world.created()
    body = json.dumps({"model": "gpt-4o", "input": "summarize"}).encode()
    call = http.world.call_log.begin(
        instance.organization_id, instance.id, ModelProvider.OPENAI, "responses", body, "t-1"
    )
    assert http.world.session_watch.note(instance.sandbox_id, call)
    end(http, call, "A summary.")
    (turn,) = http.world.traces.of_instance(instance.id)
    await eventually(lambda: not turn.is_open, "the turn ends")
    assert (await messages(http, instance))["messages"] == []


async def test_messages_are_chosen_by_their_session_and_numbered_without_gaps(http: Api) -> None:
    instance = await http.world.created()
    for number in range(1, 4):
        key = "agent:main:cron:1" if number == 2 else MAIN
        content: dict[str, Any] = {
            "kind": "job",
            "job": None,
            "session_key": key,
            "text": str(number),
        }
        content |= {"trace_id": "t", "model_calls": 1, "is_cut": False}
        await http.world.messages.add(instance.id, http.world.clock(), content)
    listed = await messages(http, instance, session="main", limit=1)
    assert ([each["text"] for each in listed["messages"]], listed["after"]) == (["1"], 1)
    listed = await messages(http, instance, session="main", after=1)
    assert ([each["text"] for each in listed["messages"]], listed["after"]) == (["3"], 3)
    listed = await messages(http, instance, session="agent:main:cron:1")
    assert [each["text"] for each in listed["messages"]] == ["2"]


async def test_a_deleted_instance_leaves_no_message(http: Api) -> None:
    instance = await http.world.created()
    assert (await http.call("DELETE", f"/v1/instances/{instance.id}")).status_code == 204
    await http.world.messages.add(instance.id, http.world.clock(), {"text": "late"})
    assert not (await http.world.messages.read(instance.id, 0)).entries


async def test_a_silent_turn_ends_when_the_gateway_has_no_run_of_it(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unasked_turns, "QUIET_S", 0.0)
    instance = await http.world.created()
    key = "agent:main:cron:1"

    def run(*, is_active: bool) -> dict[str, Any]:
        return done(sessions=[{"key": f"{key}:run:2", "hasActiveRun": is_active}])

    http.world.programs.answers["sessions.list"] = [run(is_active=True), run(is_active=False)]
    end(http, begin(http, instance, "[cron:1 daily] Go", key), "", TOOL)

    (turn,) = http.world.traces.of_instance(instance.id)
    await eventually(lambda: turn.status is TurnStatus.CANCELLED, "the turn ends")
    assert len(http.world.programs.called("sessions.list")) == 2


async def test_a_turn_fails_with_its_last_model_call_unless_it_is_made_again(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unasked_turns, "AGAIN_S", 0.0)
    instance = await http.world.created()
    call = begin(http, instance, "[cron:1 daily] Go", "agent:main:cron:1")
    call.finish("refused", "The provider is down.")

    (turn,) = http.world.traces.of_instance(instance.id)
    await eventually(lambda: turn.status is TurnStatus.FAILED, "the turn fails")
    assert turn.error == "The provider is down."
    assert (await messages(http, instance))["messages"] == []


async def test_a_job_of_the_main_session_is_found_by_its_text(http: Api) -> None:
    instance = await http.world.created()
    jobs = [{"name": "tea", "payload": {"text": 'Say "tea"'}}]
    http.world.gateway.rpc_answers["cron.list"] = scripted.ok({"jobs": jobs})
    text = 'A scheduled reminder has been triggered. The reminder content is:\n\nSay "tea"'
    begin(http, instance, text)

    (turn,) = http.world.traces.of_instance(instance.id)
    await eventually(lambda: turn.job == "tea", "the job is found")


async def test_the_heartbeat_after_a_hook_that_wakes_is_the_hooks_turn(http: Api) -> None:
    instance = await http.world.created()
    text = "Follow the heartbeat monitor scratch context when provided."
    http.world.unasked_turns.expect_hook(instance.sandbox_id)
    end(http, begin(http, instance, text, trace="t-1"), "The build is green.")
    end(http, begin(http, instance, text, trace="t-2"), "HEARTBEAT_OK")
    assert [each["kind"] for each in await traces(http, instance)] == ["heartbeat", "hook"]
