"""Scheduled jobs: created, changed, run and followed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider
from chowder_local.core.events import EventType
from tests.scripted.gateway import ok, refused
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api
    from tests.scripted.world import World

EVERY = {"kind": "every", "every_s": 60}
MISSING = refused("cron job not found: nope. List automations and retry.")


def raw(at_ms: float = 0, **members: Any) -> dict[str, Any]:
    """A job of the gateway's that is due then."""
    state = {"nextRunAtMs": at_ms, **members.pop("state", {})}
    return {
        "id": "j-1",
        "name": "report",
        "enabled": True,
        "schedule": {"kind": "every", "everyMs": 60_000},
        "sessionTarget": "isolated",
        "payload": {"kind": "agentTurn", "message": "It is nine"},
        "state": state,
        **members,
    }


def answer_with(world: World, *jobs: dict[str, Any], runs: Any = ()) -> None:
    world.gateway.rpc_answers |= {
        "cron.list": ok({"jobs": list(jobs)}),
        "cron.runs": ok({"entries": list(runs)}),
    }


def params(world: World, method: str) -> list[dict[str, Any]]:
    return [params for name, params in world.gateway.rpc_calls if name == method]


def ms(world: World, seconds: float = 0.0) -> float:
    return (world.clock.now + timedelta(seconds=seconds)).timestamp() * 1000


def events_of_jobs(world: World) -> list[str]:
    """The events of jobs so far."""
    events = [each for each in world.events.after(0) if each.type.startswith("job.")]
    assert all(each.members["job"] == "report" for each in events)
    return [each.type for each in events]


async def test_a_job_is_created_in_openclaws_words_and_shown_in_ours(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.rpc_answers["cron.add"] = ok(raw(1_796_115_600_000))
    answer_with(http.world)
    body = {
        "name": "report",
        "schedule": EVERY,
        "message": "It is nine",
        "session": "alpha",
        "model": "gpt-4o",
        "openclaw": {"payload": {"timeoutSeconds": 9}},
    }
    answer = await http.post(f"/local/instances/{instance.id}/jobs", json=body)
    assert answer.status_code == 201
    job = answer.json()
    assert (job["id"], job["kind"], job["next_run_at"]) == ("j-1", "user", "2026-12-01T09:00:00Z")
    (sent,) = params(http.world, "cron.add")
    assert sent["payload"] == {
        "kind": "agentTurn",
        "message": "It is nine",
        "model": "chowder-openai/gpt-4o",
        "timeoutSeconds": 9,
    }
    assert sent["sessionTarget"].startswith("session:s-")


async def test_a_time_that_summer_time_leaves_out_moves_on_by_an_hour(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.rpc_answers["cron.add"] = ok(raw(1_796_115_600_000))
    answer_with(http.world)
    schedule = {"kind": "at", "at": "2027-03-28T02:30:00", "timezone": "Europe/Berlin"}
    body = {"name": "report", "schedule": schedule, "message": "It is half past two"}
    answer = await http.post(f"/local/instances/{instance.id}/jobs", json=body)
    assert answer.status_code == 201
    # At 03:30 in Berlin.
    (sent,) = params(http.world, "cron.add")
    assert sent["schedule"]["at"] == "2027-03-28T01:30:00.000+00:00"


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"kind": "at"}, "Field required"),
        ({"kind": "cron", "cron": "0 9 * * *", "every_s": 5}, "No such member. Allowed: "),
        ({"kind": "cron", "cron": "0 9 * * *", "timezone": "Mars/X"}, "no time zone 'Mars/X'"),
    ],
)
async def test_a_wrong_schedule_does_not_reach_openclaw(
    http: Api, schedule: dict[str, Any], words: str
) -> None:
    instance = await http.world.created()
    body = {"name": "report", "schedule": schedule, "message": "It is nine"}
    answer = await http.post(f"/local/instances/{instance.id}/jobs", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"][0]["msg"]
    assert not params(http.world, "cron.add")


async def test_openclaws_refusal_is_told_in_its_words(http: Api) -> None:
    instance = await http.world.created()
    refusal = refused("invalid cron.add params: CronPattern: Invalid value for minute: 99")
    http.world.gateway.rpc_answers["cron.add"] = refusal
    body = {"name": "r", "schedule": {"kind": "cron", "cron": "99 * * * *"}, "message": "m"}
    answer = await http.post(f"/local/instances/{instance.id}/jobs", json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"] == (
        "OpenClaw does not take the job: CronPattern: Invalid value for minute: 99"
    )


async def test_a_job_that_is_not_there_is_a_404(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.rpc_answers |= {"cron.get": MISSING, "cron.runs": ok({"entries": []})}
    path = f"/local/instances/{instance.id}/jobs/nope"
    statuses = [
        (await http.get(path)).status_code,
        (await http.patch(path, json={"is_enabled": False})).status_code,
        (await http.call("DELETE", path)).status_code,
        (await http.post(f"{path}/run")).status_code,
        (await http.get(f"{path}/runs")).status_code,
    ]
    assert statuses == [404] * 5


async def test_a_job_that_is_gone_is_deleted_whatever_else_failed(http: Api) -> None:
    instance = await http.world.created()
    answers = http.world.gateway.rpc_answers
    answers["cron.get"] = [ok(raw()), MISSING]
    # What OpenClaw answers if it cannot delete the job's session.
    answers["cron.remove"] = refused("gateway method failed before returning a response", 503)
    path = f"/local/instances/{instance.id}/jobs/j-1"
    assert (await http.call("DELETE", path)).status_code == 204
    assert (await http.call("DELETE", path)).status_code == 404
    answers["cron.get"] = ok(raw())
    assert (await http.call("DELETE", path)).status_code == 502
    answers["cron.remove"] = ok({"ok": True, "removed": True})
    answers["cron.list"] = refused("busy", 503)
    assert (await http.call("DELETE", path)).status_code == 204


async def test_a_forced_run_goes_by_the_sandbox_and_says_so(http: Api) -> None:
    instance = await http.world.created()
    http.world.gateway.rpc_answers["cron.get"] = ok(raw())
    answer_with(http.world, raw(ms(http.world, 60)))
    http.world.programs.answers["cron.run"] = {"ok": True, "payload": {"enqueued": True}}
    answer = await http.post(f"/local/instances/{instance.id}/jobs/j-1/run")
    assert (answer.status_code, answer.json()["path"]) == (202, "forced")
    assert http.world.programs.called("cron.run") == [{"id": "j-1", "mode": "force"}]


async def test_a_run_has_its_model_calls_and_their_cost(http: Api) -> None:
    world = http.world
    instance = await world.created()
    line = "Runtime: agent=main | session=agent:main:cron:j-1 | host=agent"
    body = f'{{"model": "gpt-4o", "input": [{{"role": "developer", "content": "{line}"}}]}}'
    call = world.call_log.begin(
        instance.organization_id, instance.id, ModelProvider.OPENAI, "responses", body.encode()
    )
    call.source = "offline"
    world.call_log.append(
        call,
        b'{"object": "response", "output": [], "usage": {"input_tokens": 7, "output_tokens": 2}}',
    )
    call.finish("offline")
    entry = {
        "ts": call.at.timestamp() * 1000 + 20,
        "runAtMs": call.at.timestamp() * 1000 - 20,
        "jobId": "j-1",
        "status": "ok",
        "summary": "All is well.",
        "sessionKey": "agent:main:cron:j-1:run:8c75",
    }
    answer_with(world, runs=[entry])
    (run,) = (await http.get(f"/local/instances/{instance.id}/jobs/j-1/runs")).json()
    assert (run["answer"], run["outcome"], run["cost_usd"]) == ("All is well.", "ok", 0.0)
    assert run["model_calls"] == [call.id]


async def test_an_agent_is_woken_in_its_main_session(http: Api) -> None:
    instance = await http.world.created()
    http.world.programs.answers["wake"] = {"ok": True, "payload": {"ok": True}}
    path = f"/local/instances/{instance.id}/wake"
    assert (await http.post(path, json={"text": "Done"})).status_code == 204
    assert http.world.programs.called("wake") == [{"mode": "now", "text": "Done"}]


async def followed(http: Api, job: dict[str, Any]) -> Instance:
    """An agent with a job, which the server has looked at."""
    instance = await http.world.created()
    answer_with(http.world, job)
    await http.get(f"/local/instances/{instance.id}/jobs")
    calls = http.world.gateway.rpc_calls
    await eventually(
        lambda: [each for each, _ in calls].count("cron.list") == 2, "it was looked at"
    )
    return instance


def pass_time(world: World, instance: Instance, seconds: float) -> None:
    world.clock.advance(seconds)
    world.due_jobs.look_again(instance.id)


async def test_a_due_run_is_told_from_its_due_time_to_its_end(http: Api) -> None:
    world = http.world
    due_ms = ms(world, 60)
    instance = await followed(http, raw(due_ms))
    answer_with(world, raw(due_ms, state={"runningAtMs": due_ms + 20}))
    pass_time(world, instance, 60)
    await eventually(lambda: "job.began" in events_of_jobs(world), "the run has begun")
    entry = {"ts": due_ms + 900, "runAtMs": due_ms + 20, "jobId": "j-1", "status": "ok"}
    ended = {"lastRunAtMs": due_ms + 20, "lastRunStatus": "ok"}
    answer_with(world, raw(due_ms + 60_000, state=ended), runs=[entry])
    pass_time(world, instance, 1)
    await eventually(lambda: "job.ended" in events_of_jobs(world), "the run has ended")
    assert events_of_jobs(world) == ["job.due", "job.began", "job.ended"]


async def test_a_due_time_without_a_run_is_missed_once(http: Api) -> None:
    world = http.world
    due_ms = ms(world, 60)
    instance = await followed(http, raw(due_ms))
    # OpenClaw has gone on to the next due time.
    answer_with(world, raw(due_ms + 60_000))
    pass_time(world, instance, 60)
    await eventually(lambda: "job.due" in events_of_jobs(world), "it is due")
    pass_time(world, instance, 31)
    await eventually(lambda: "job.missed" in events_of_jobs(world), "it is missed")
    pass_time(world, instance, 1)
    assert events_of_jobs(world) == ["job.due", "job.missed"]


async def test_a_hibernated_agent_is_back_before_its_job_is_due(http: Api) -> None:
    world = http.world
    instance = await followed(http, raw(ms(world, 10_000)))
    world.clock.advance(7_200)
    await world.hibernation.hibernate_idle()
    assert (await world.now(instance)).is_hibernated
    pass_time(world, instance, 2_760)
    kinds = world.events.after
    await eventually(
        lambda: EventType.INSTANCE_RESUMED in [each.type for each in kinds(0)], "it is back"
    )
    assert events_of_jobs(world) == []


async def test_a_due_time_outlives_the_server(http: Api) -> None:
    world = http.world
    instance = await followed(http, raw(ms(world, 60)))
    (due_at,) = (await world.due_jobs.queries.all()).values()
    assert due_at == world.clock.now + timedelta(seconds=60)
    await world.lifecycle.delete(world.organization_id, instance.id)
    assert not await world.due_jobs.queries.all()


def call_of(world: World, instance: Instance, session_key: str, answer: bytes = b"") -> None:
    """A model call from its beginning to its end."""
    line = f"Runtime: agent=main | session={session_key} | host=agent"
    body = f'{{"model": "gpt-4o", "input": [{{"role": "developer", "content": "{line}"}}]}}'
    call = world.call_log.begin(
        instance.organization_id, instance.id, ModelProvider.OPENAI, "responses", body.encode()
    )
    world.due_jobs.note_call(call)
    world.call_log.append(call, answer)
    call.finish("offline")
    world.due_jobs.note_call(call)


TOOL = {"type": "function_call", "call_id": "c", "name": "tool_call"}
ADDING = TOOL | {"arguments": '{"id": "automations", "args": {"action": "add"}}'}
OTHER = TOOL | {"arguments": '{"id": "web_fetch", "args": {}}'}


@pytest.mark.parametrize(("tool", "is_followed"), [(ADDING, True), (OTHER, False)])
async def test_a_job_that_the_agent_makes_is_followed(
    http: Api, tool: dict[str, Any], is_followed: bool
) -> None:
    world = http.world
    instance = await world.created()
    answer_with(world, raw(ms(world, 60)))
    answer = json.dumps({"object": "response", "output": [tool]}).encode()
    call_of(world, instance, "agent:main:main", answer)
    assert not world.due_jobs.is_followed(instance.id)
    call_of(world, instance, "agent:main:main")
    assert world.due_jobs.is_followed(instance.id) is is_followed


async def test_a_job_that_runs_unknown_is_followed(http: Api) -> None:
    instance = await http.world.created()
    answer_with(http.world, raw(ms(http.world, 60)))
    call_of(http.world, instance, "agent:main:cron:j-1")
    assert http.world.due_jobs.is_followed(instance.id)


async def test_an_agent_without_jobs_is_not_followed(http: Api) -> None:
    instance = await followed(http, raw(ms(http.world, 60)))
    answer_with(http.world)
    http.world.due_jobs.look_again(instance.id)
    await eventually(lambda: not http.world.due_jobs._followed, "nothing is left to follow")
    assert not await http.world.due_jobs.queries.all()
