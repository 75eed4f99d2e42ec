"""What an agent is doing: events, the tree of its work, waiting for its end, and ending it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.events import EventType
from chowder_local.features.clock.service import ClockChange, Clocks
from chowder_local.instances.conversations import activity
from chowder_local.openclaw.session_keys import session_key
from tests.api.test_unasked_turns import MAIN, RUNTIME, TASK, TOOL, begin, end, messages
from tests.scripted import gateway as scripted
from tests.scripted.programs import done, undone
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    import httpx
    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

CHILD = "agent:main:subagent:1"
HELPER = {
    "id": "task-1", "runtime": "subagent", "status": "running", "title": "Look at the moon",
    "sessionKey": session_key("moon"), "childSessionKey": CHILD, "createdAt": 1_600_000_000_000,
    "deliveryStatus": "pending",
}  # fmt: skip


@pytest.fixture
def silence(http: Api) -> asyncio.Event:
    """The agents answer no message before it is set."""
    told = asyncio.Event()

    async def handler(message: scripted.ReceivedMessage, receive: Receive, send: Send) -> None:
        await told.wait()
        await scripted.friendly(message, receive, send)

    http.world.gateway.handler = handler
    return told


async def sent(http: Api, instance: Instance, **more: Any) -> asyncio.Task[httpx.Response]:
    """A message to the session `moon` that has come to the agent."""
    path = f"/v1/instances/{instance.id}/session/moon/responses"
    body = {"model": "gpt-4o", "input": "Research the moon.", **more}
    known = len(http.world.gateway.messages)
    task = asyncio.create_task(http.post(path, json=body))
    await eventually(lambda: len(http.world.gateway.messages) > known, "the agent has it")
    return task


async def doing(http: Api, instance: Instance) -> dict[str, Any]:
    shown = await http.get(f"/local/instances/{instance.id}/activity")
    assert shown.status_code == 200, shown.text
    content: dict[str, Any] = shown.json()
    return content


def events_of(http: Api, *kinds: str) -> list[dict[str, Any]]:
    """The members of all events of these types."""
    return [
        {**each.members, "type": each.type}
        for each in http.world.events.after(0)
        if each.type in kinds
    ]


async def test_an_idle_agent_is_idle(http: Api) -> None:
    instance = await http.world.created()
    shown = await doing(http, instance)
    assert (shown["status"], shown["since"], shown["turns"]) == ("idle", None, [])


async def test_a_message_is_shown_with_what_its_agent_does_for_it(
    http: Api, silence: asyncio.Event
) -> None:
    instance = await http.world.created()
    answer = await sent(http, instance)
    (turn,) = (await doing(http, instance))["turns"]
    assert (turn["state"], turn["text"], turn["session"]) == (
        "waiting",
        "Research the moon.",
        "moon",
    )
    call = begin(http, instance, "Research the moon.", session_key("moon"), "t-1")
    (turn,) = (await doing(http, instance))["turns"]
    assert (turn["state"], turn["model_call_id"], turn["model"]) == (
        "calling_model",
        call.id,
        "gpt-4o",
    )
    end(http, call, "", {**TOOL, "arguments": '{"command": "date"}'})
    (turn,) = (await doing(http, instance))["turns"]
    assert (turn["state"], turn["kind"]) == ("running_tools", "message")
    assert turn["tools"] == [{"name": "exec", "call_id": "c", "arguments": '{"command": "date"}'}]
    silence.set()
    assert (await answer).status_code == 200
    shown = await doing(http, instance)
    assert (shown["status"], shown["turns"]) == ("idle", [])
    assert shown["since"] is not None


async def test_sub_agents_are_below_the_turn_that_asked_for_them(
    http: Api, silence: asyncio.Event
) -> None:
    instance = await http.world.created()
    own = {
        **HELPER,
        "id": "task-2",
        "sessionKey": CHILD,
        "childSessionKey": "agent:main:subagent:2",
    }
    alone = {**HELPER, "id": "task-3", "sessionKey": MAIN, "childSessionKey": None}
    tasks = {"tasks": [alone, own, HELPER]}
    http.world.gateway.rpc_answers["tasks.list"] = scripted.ok(tasks)
    answer = await sent(http, instance)
    begin(http, instance, TASK, CHILD, "t-2")
    shown = await doing(http, instance)
    assert [each["task_id"] for each in shown["tasks"]] == ["task-3"]
    (turn,) = shown["turns"]
    (helper,) = turn["tasks"]
    assert (helper["task_id"], helper["title"]) == ("task-1", "Look at the moon")
    (its_turn,) = helper["turns"]
    assert (its_turn["kind"], its_turn["session_key"]) == ("subagent", CHILD)
    assert [each["task_id"] for each in helper["tasks"]] == []
    # The sub-agent's turn is in the session that has asked.
    assert [each["task_id"] for each in its_turn["tasks"]] == ["task-2"]
    silence.set()
    await answer


async def test_tasks_that_are_not_known_are_a_problem_and_no_error(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.rpc_answers["tasks.list"] = scripted.refused("Not now.", 503)
    assert "Not now." in (await doing(http, instance))["problem"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_that_is_cancelled_gets_an_error_at_once(
    http: Api, silence: asyncio.Event, *, is_streamed: bool
) -> None:
    instance = await http.world.created()
    if is_streamed:

        async def handler(_: scripted.ReceivedMessage, receive: Receive, send: Send) -> None:
            await scripted.begin(send, 200, "text/event-stream")
            created = {"type": "response.created", "response": scripted.STARTED}
            await scripted.events(send, created)
            await receive()

        http.world.gateway.handler = handler
    answer = await sent(http, instance, stream=is_streamed)
    (turn,) = (await doing(http, instance))["turns"]
    path = f"/local/instances/{instance.id}/activity"
    assert (await http.call("DELETE", f"{path}/other")).status_code == 404
    ended = await http.call("DELETE", f"{path}/{turn['trace_id']}")
    assert ended.json() == {"cancelled": [turn["trace_id"]]}
    refused = await answer
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "turn_cancelled"
    (trace,) = http.world.traces.of_instance(instance.id)
    assert trace.status == "cancelled"
    assert not silence.is_set()
    assert (await http.call("DELETE", path)).json() == {"cancelled": []}


async def test_all_that_an_agent_does_is_cancelled_at_its_gateway(
    http: Api, silence: asyncio.Event
) -> None:
    instance = await http.world.created()
    http.world.gateway.rpc_answers["tasks.list"] = scripted.ok({"tasks": [HELPER]})
    http.world.gateway.rpc_answers["tasks.cancel"] = scripted.ok({"cancelled": True})
    run = "agent:main:cron:1:run:2"
    sessions = [{"key": run, "hasActiveRun": True}, {"key": MAIN, "hasActiveRun": True}]
    http.world.programs.answers["sessions.list"] = done(sessions=sessions)
    http.world.programs.answers["sessions.abort"] = done()
    begin(http, instance, "[cron:1 daily] Go", "agent:main:cron:1")
    (turn,) = http.world.traces.in_progress(instance.id)
    ended = await http.call("DELETE", f"/local/instances/{instance.id}/activity")
    assert ended.json() == {"cancelled": [turn.id, "task-1"]}
    (aborted,) = http.world.programs.called("sessions.abort")
    assert aborted["key"] == run
    assert http.world.gateway.called("tasks.cancel") == [{"taskId": "task-1"}]
    assert turn.status == "cancelled"


async def test_a_wait_ends_when_turns_tasks_and_reports_have_ended(
    http: Api, silence: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "LOOK_S", 0.0)
    instance = await http.world.created()
    updated = int(http.world.clock().timestamp() * 1000)
    ended = {**HELPER, "status": "completed", "updatedAt": updated}
    told = {**ended, "deliveryStatus": "delivered"}
    http.world.gateway.rpc_answers["tasks.list"] = [
        scripted.ok({"tasks": [each]}) for each in (HELPER, HELPER, ended, told)
    ]
    blockers = [{"message": "1 pending reply"}]
    http.world.programs.answers["gateway.restart.preflight"] = [
        done(blockers=blockers),
        done(blockers=[]),
    ]
    answer = await sent(http, instance)
    path = f"/local/instances/{instance.id}/wait"
    late = await http.post(path, json={"timeout_s": 0})
    assert (late.json()["status"], len(late.json()["turns"])) == ("busy", 1)
    waiting = asyncio.create_task(http.post(path, json={"until": "idle", "timeout_s": 60}))
    silence.set()
    assert (await answer).status_code == 200
    assert (await waiting).json()["status"] == "idle"
    assert len(http.world.programs.called("gateway.restart.preflight")) == 2
    # A task, its report that is to come, what OpenClaw does besides, and nothing of it.
    assert len(http.world.gateway.called("tasks.list")) == 5
    assert (await http.post(path, json={"until": "Friday"})).status_code == 422


async def test_a_follower_is_told_what_an_agent_does(http: Api, silence: asyncio.Event) -> None:
    instance = await http.world.created()
    events = http.world.events
    with events.follow(instance.organization_id, instance_id=instance.id, is_watching=True):
        answer = await sent(http, instance)
        first = begin(http, instance, "Research the moon.", session_key("moon"), "t-1")
        end(http, first, "", TOOL)
        turns = [
            {"role": "developer", "content": RUNTIME.format(session_key("moon"))},
            {"role": "user", "content": "Research the moon."},
            TOOL,
            {"type": "function_call_output", "call_id": "c", "output": "cheese"},
        ]
        body = json.dumps({"model": "gpt-4o", "input": turns}, separators=(",", ":")).encode()
        second = http.world.call_log.begin(
            instance.organization_id, instance.id, "openai", "responses", body, "t-1"
        )
        assert http.world.session_watch.note(instance.sandbox_id, second)
        end(http, second, "It is cheese.")
        silence.set()
        await answer
    (trace,) = http.world.traces.of_instance(instance.id)
    seen = events_of(
        http,
        "message.received",
        "turn.begun",
        "tool.begun",
        "tool.ended",
        "message.sent",
        "turn.ended",
    )
    assert [each["type"] for each in seen] == [
        "message.received", "turn.begun", "tool.begun", "tool.ended", "message.sent", "turn.ended",
    ]  # fmt: skip
    assert {each["trace_id"] for each in seen} == {trace.id}
    received, _, tool, result, answered, ended = seen
    assert received["text"] == "Research the moon."
    assert (tool["tool"], tool["model_call_id"]) == ("exec", first.id)
    assert (result["call_id"], result["result"]) == ("c", "cheese")
    assert answered["text"] == "Hello there."
    assert (ended["outcome"], ended["model_calls"]) == ("answered", 2)


async def test_a_sub_agent_works_while_its_turn_runs_a_tool(http: Api) -> None:
    instance = await http.world.created()
    end(http, begin(http, instance, TASK, CHILD), "", TOOL)
    assert await http.world.activities.has_subagents(instance)


async def test_no_report_to_the_run_of_a_job_is_waited_for(http: Api) -> None:
    instance = await http.world.created()
    updated = int(http.world.clock.now.timestamp() * 1000)
    task = {**HELPER, "status": "completed", "updatedAt": updated}
    for key, is_awaited in {"agent:main:cron:1:run:2": False, MAIN: True}.items():
        http.world.gateway.rpc_answers["tasks.list"] = scripted.ok(
            {"tasks": [{**task, "sessionKey": key}]}
        )
        assert await http.world.activities.has_subagents(instance) is is_awaited


async def test_a_report_is_not_waited_for_without_end_while_the_agents_clock_stands(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "REPORT", timedelta())
    instance = await http.world.created()
    change = ClockChange(at=http.world.clock.now, is_frozen=True)
    instance = await http.world.feature(Clocks).set(instance, change)
    updated = int(http.world.clock.now.timestamp() * 1000)
    task = {**HELPER, "status": "completed", "updatedAt": updated}
    http.world.gateway.rpc_answers["tasks.list"] = scripted.ok({"tasks": [task]})
    assert not await http.world.activities.has_subagents(instance)


async def test_tools_are_not_looked_at_while_nobody_follows(http: Api) -> None:
    instance = await http.world.created()
    call = begin(http, instance, "[cron:1 daily] Go", "agent:main:cron:1")
    end(http, call, "", TOOL)
    await messages(http, instance)
    assert events_of(http, "tool.begun", "task.begun") == []
    assert len(events_of(http, "turn.begun")) == 1


async def test_tasks_are_told_while_somebody_follows(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "LOOK_S", 0.0)
    monkeypatch.setattr(activity, "COLLECT_S", 0.0)
    instance = await http.world.created()
    updated = int(http.world.clock().timestamp() * 1000)
    # It ended just before the turn began.
    old = {**HELPER, "id": "task-0", "status": "completed", "updatedAt": updated - 1}
    ended = {**HELPER, "status": "failed", "error": "Broken.", "updatedAt": updated}
    http.world.gateway.rpc_answers["tasks.list"] = [
        scripted.ok({"tasks": [HELPER, old]}), scripted.ok({"tasks": [ended, old]}),
    ]  # fmt: skip
    with http.world.events.follow(instance.organization_id, is_watching=True):
        end(http, begin(http, instance, TASK, CHILD), "It is cheese.")
        await eventually(lambda: events_of(http, "task.ended"), "the task's end is told")
    (begun,), (over,) = events_of(http, "task.begun"), events_of(http, "task.ended")
    assert (begun["task_id"], begun["task_kind"], begun["own_session_key"]) == (
        "task-1",
        "subagent",
        CHILD,
    )
    assert (over["outcome"], over["error_message"]) == ("failed", "Broken.")


async def test_the_stream_of_an_instance_has_its_events_only(http: Api) -> None:
    ours, other = await http.world.created(), await http.world.created()
    events = http.world.events
    with events.follow(ours.organization_id, instance_id=ours.id) as follower:
        for each in (None, other.id, ours.id):
            events.publish(EventType.CLOCK_SET, ours.organization_id, each, now="2027-01-01")
        events.close()
        seen = [event.instance_id async for batch in follower.batches() for event in batch]
    assert seen == [ours.id]


SESSION = "sessions/moon"


@pytest.mark.parametrize(
    ("method", "path", "called", "status"),
    [
        ("POST", f"{SESSION}/reset", "sessions.reset", 204),
        ("POST", f"{SESSION}/compact", "sessions.compact", 200),
        ("POST", f"{SESSION}/abort", "sessions.abort", 200),
        ("DELETE", SESSION, "sessions.delete", 204),
    ],
)
async def test_a_session_is_changed_without_a_message(
    http: Api, silence: asyncio.Event, method: str, path: str, called: str, status: int
) -> None:
    instance = await http.world.created()
    silence.set()
    assert (await (await sent(http, instance))).status_code == 200
    silence.clear()
    # What is in progress ends, except for a compaction, which OpenClaw refuses then.
    running = None if called == "sessions.compact" else await sent(http, instance)
    changed = await http.call(method, f"/local/instances/{instance.id}/{path}")
    assert changed.status_code == status, changed.text
    (params,) = http.world.programs.called(called)
    assert params["key"] == session_key("moon")
    if running is not None:
        assert (await running).status_code == 409
    named = await http.world.sessions.of_instance(instance.id)
    assert [each.name for each in named] == ([] if called == "sessions.delete" else ["moon"])
    assert len(http.world.gateway.messages) == (1 if running is None else 2)


async def test_openclaws_refusals_of_a_session_are_passed_on(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/sessions"
    http.world.programs.answers["sessions.delete"] = [
        undone("Cannot delete the main session."), done(deleted=False),
    ]  # fmt: skip
    http.world.programs.answers["sessions.compact"] = done(compacted=False, reason="no sessionId")
    refused = await http.call("DELETE", f"{path}/main")
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "Cannot delete the main session.",
    )
    # OpenClaw's key of a session that has no name.
    assert (await http.call("DELETE", f"{path}/{CHILD}")).status_code == 404
    assert http.world.programs.called("sessions.delete")[-1]["key"] == CHILD
    assert (await http.post(f"{path}/moon/compact")).status_code == 404


async def test_a_session_is_set_back_to_before_a_message(http: Api, silence: asyncio.Event) -> None:
    instance = await http.world.created()
    silence.set()
    assert (await (await sent(http, instance))).status_code == 200
    before = await http.world.histories.get(instance.id, session_key("moon"))
    assert before.items
    message = {"position": 0, "role": "user", "id": "e1",
               "parts": [{"type": "text", "text": "How are you?"}]}  # fmt: skip
    page = {"is_known": True, "messages": [message], "has_more": False}
    http.world.programs.answers |= {"read": done(**page), "sessions.rewind": done()}
    path = f"/local/instances/{instance.id}/{SESSION}/rewind"
    assert (await http.post(path, json={"position": 1})).status_code == 404
    assert (await http.post(path, json={"position": 0})).status_code == 204
    (params,) = http.world.programs.called("sessions.rewind")
    assert params == {"sessionKey": session_key("moon"), "entryId": "e1"}
    # What a client sends again is new again.
    assert not (await http.world.histories.get(instance.id, session_key("moon"))).items
