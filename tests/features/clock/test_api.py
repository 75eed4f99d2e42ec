"""The clock of an agent, by the API."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.events import EventType
from chowder_local.features.clock.errors import AdvanceInterrupted
from chowder_local.features.clock.runs import AdvancedRun
from chowder_local.features.clock.service import Clocks
from chowder_local.instances.schedule import due_jobs
from chowder_local.openclaw.jobs import read_jobs
from tests.features.jobs.test_api import events_of_jobs, followed, ms, params, pass_time, raw
from tests.scripted.serving import DEADLINE_S, eventually

if TYPE_CHECKING:
    from chowder_local.openclaw.jobs import Job
    from tests.api.conftest import Api

AT = "2027-01-01T09:00:00Z"


async def test_the_clock_is_set_and_shown(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/clock"
    before = (await http.get(path)).json()
    assert (before["offset_s"], before["is_frozen"], before["rate"]) == (0, False, 1)
    answer = await http.call("PUT", path, json={"at": AT, "frozen": True, "seed": 7})
    assert answer.status_code == 200
    shown = (await http.get(path)).json()
    assert shown == answer.json()
    assert (shown["now"], shown["is_frozen"], shown["rate"], shown["seed"]) == (AT, True, 0, 7)
    # What is left out stays.
    again = (await http.call("PUT", path, json={"frozen": False})).json()
    assert (again["now"], again["rate"], again["seed"]) == (AT, 1, 7)


async def test_the_clock_is_moved_on_by_a_duration(http: Api) -> None:
    instance = await http.world.created()
    path = f"/local/instances/{instance.id}/clock/advance"
    answer = await http.post(path, json={"by": "1d12h30m"})
    assert answer.status_code == 200
    assert answer.json()["offset_s"] == timedelta(hours=36, minutes=30).total_seconds()
    assert (answer.json()["has_arrived"], answer.json()["runs"]) == (True, [])
    assert (await http.call("DELETE", path)).status_code == 204


@pytest.mark.parametrize(
    ("method", "below", "body"),
    [
        ("PUT", "", {"at": "2027-01-01T09:00:00"}),
        ("PUT", "", {"at": "2400-01-01T09:00:00Z"}),
        ("PUT", "", {"seed": -1}),
        ("POST", "/advance", {}),
        ("POST", "/advance", {"by": "a day"}),
        ("POST", "/advance", {"by": ""}),
        ("POST", "/advance", {"by": "0s"}),
        ("POST", "/advance", {"by": "367d"}),
        ("POST", "/advance", {"by": "1h", "to": "next_job"}),
        ("POST", "/advance", {"by": "1h", "limit": 1001}),
    ],
)
async def test_other_times_and_distances_are_refused(
    http: Api, method: str, below: str, body: dict[str, Any]
) -> None:
    instance = await http.world.created()
    answer = await http.call(method, f"/local/instances/{instance.id}/clock{below}", json=body)
    assert answer.status_code == 422


async def test_a_stopped_agents_clock_is_not_moved_on(http: Api) -> None:
    instance = await http.world.stopped()
    path = f"/local/instances/{instance.id}/clock"
    assert (await http.post(f"{path}/advance", json={"by": "1h"})).status_code == 409
    assert (await http.call("PUT", path, json={"at": AT})).json()["now"] == AT


async def test_an_advance_that_is_interrupted_answers_with_its_runs(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await http.world.created()
    at = http.world.clock.now
    run = AdvancedRun("job-1", "daily", at, at, 1.5, "ok")

    async def advance(*_: object) -> None:
        raise AdvanceInterrupted("Instance is stopped.", [run])

    monkeypatch.setattr(http.world.feature(Clocks), "advance", advance)
    path = f"/local/instances/{instance.id}/clock/advance"
    answer = await http.post(path, json={"by": "1d"})
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (409, "advance_interrupted")
    body = answer.json()
    assert body["detail"] == "The advance of the clock has ended after 1 run: Instance is stopped."
    assert [(each["job"], each["took_s"]) for each in body["runs"]] == [("daily", 1.5)]


async def test_a_due_time_over_which_the_clock_is_moved_is_not_missed(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = http.world
    due_ms = ms(world, 3600)
    instance = await followed(http, raw(due_ms))
    at = (world.clock.now + timedelta(days=2)).isoformat()
    has_moved = threading.Event()

    def read_after_the_move(answer: Any) -> list[Job]:
        assert has_moved.wait(DEADLINE_S)
        return read_jobs(answer)

    monkeypatch.setattr(due_jobs, "read_jobs", read_after_the_move)
    looks = len(params(world, "cron.list"))
    world.due_jobs.look_again(instance.id)
    await eventually(lambda: len(params(world, "cron.list")) > looks, "a look is in progress")
    await http.call("PUT", f"/local/instances/{instance.id}/clock", json={"at": at})
    has_moved.set()
    # One is the call's own.
    await eventually(lambda: len(params(world, "cron.list")) > looks + 2, "it is looked at")
    assert events_of_jobs(world) == []


async def test_a_hibernated_agent_is_back_before_its_job_is_due_by_its_clock(http: Api) -> None:
    world = http.world
    day_s = 86_400
    instance = await followed(http, raw(ms(world, day_s + 10_000)))
    at = (world.clock.now + timedelta(days=1)).isoformat()
    await http.call("PUT", f"/local/instances/{instance.id}/clock", json={"at": at})
    world.clock.advance(7_200)
    await world.hibernation.hibernate_idle()
    assert (await world.now(instance)).is_hibernated
    pass_time(world, instance, 2_760)
    await eventually(
        lambda: EventType.INSTANCE_RESUMED in [each.type for each in world.events.after(0)],
        "it is back",
    )


async def test_the_machines_times_of_runs_are_known_after_later_moves(http: Api) -> None:
    world = http.world
    instance = await world.created()
    start = world.clock.now
    path = f"/local/instances/{instance.id}/clock"
    for days in (1, 3):
        at = (start + timedelta(days=days)).isoformat()
        await http.call("PUT", path, json={"at": at, "frozen": days == 3})
        world.clock.advance(60)
    instance = await world.now(instance)
    first, second = start + timedelta(days=1, seconds=5), start + timedelta(days=3)
    before = start - timedelta(hours=1)
    spans = [
        tuple(
            world.agent_times.machine_time_of(instance, at, is_last=each) for each in (False, True)
        )
        for at in (before, first, second)
    ]
    assert spans == [
        (before, before),
        (start + timedelta(seconds=5), start + timedelta(seconds=5)),
        (start + timedelta(seconds=60), start + timedelta(seconds=120)),
    ]
