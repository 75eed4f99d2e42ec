"""The clocks of agents."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from chowder_local.core.domain import AgentClock, InstanceStatus
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.events import EventType
from chowder_local.features.clock.errors import AdvanceInterrupted, ClockRefused
from chowder_local.features.clock.service import RESET, ClockChange, Clocks
from chowder_local.openclaw.clock import CLOCK_FILE, header_of, record_of
from chowder_local.openclaw.jobs import PLACEHOLDER
from tests.scripted.agents import agent_at
from tests.scripted.gateway import ok, refused
from tests.scripted.homes import of_folder
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.world import open_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chowder_local.core.domain import Instance
    from chowder_local.features.clock.runs import AdvancedRun
    from tests.scripted.gateway import ScriptedGateway
    from tests.scripted.world import World

NEXT_YEAR = datetime(2027, 1, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
ADDED = ok({"created": True, "job": {"id": "placeholder"}})


def job(name: str, due: datetime | None, **state: Any) -> dict[str, Any]:
    if due is not None:
        state["nextRunAtMs"] = int(due.timestamp() * 1000)
    return {"id": name, "name": name, "enabled": True, "state": state}


def jobs(*listed: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return ok({"jobs": list(listed)})


async def moved(world: World, instance: Instance, at: datetime, **change: Any) -> Instance:
    return await world.feature(Clocks).set(instance, ClockChange(at=at, **change))


async def test_a_clock_that_was_never_set_is_the_machines(world: World) -> None:
    instance = await world.created()
    assert instance.clock is None
    assert world.agent_times.now(instance) == world.clock.now
    assert world.gateway.clocks == []
    assert CLOCK_FILE not in world.engine.files[instance.sandbox_id]


async def test_a_running_agent_gets_its_clock_at_once(world: World) -> None:
    instance = await moved(world, await world.created(), NEXT_YEAR)
    assert world.agent_times.now(instance) == NEXT_YEAR
    world.clock.advance(60)
    assert world.agent_times.now(instance) == NEXT_YEAR + timedelta(minutes=1)
    assert instance.clock is not None
    assert world.gateway.clocks == [header_of(instance.clock)]


async def test_a_frozen_clock_stands_until_it_is_let_go(world: World) -> None:
    instance = await moved(world, await world.created(), NEXT_YEAR, is_frozen=True)
    world.clock.advance(3600)
    assert world.agent_times.now(instance) == NEXT_YEAR
    instance = await world.feature(Clocks).set(instance, ClockChange(is_frozen=False))
    world.clock.advance(1)
    assert world.agent_times.now(instance) == NEXT_YEAR + timedelta(seconds=1)


async def test_a_stopped_agents_clock_counts_at_its_start(world: World) -> None:
    instance = await moved(world, await world.stopped(), NEXT_YEAR)
    assert world.gateway.clocks == []
    await world.lifecycle.start(world.organization_id, instance.id)
    assert instance.clock is not None
    assert world.gateway.clocks == [header_of(instance.clock)]


async def test_a_boot_puts_the_clock_on_the_volume(world: World) -> None:
    instance = await moved(world, await world.created(), NEXT_YEAR)
    await world.lifecycle.stop(world.organization_id, instance.id)
    await world.agents.evict(await world.now(instance))
    await world.lifecycle.start(world.organization_id, instance.id)
    assert instance.clock is not None
    assert world.engine.files[instance.sandbox_id][CLOCK_FILE] == record_of(instance.clock)


async def test_a_clock_that_is_set_during_a_boot_counts(world: World) -> None:
    world.gateway.is_started = False
    booting = await world.creation.create(world.organization_id, name="Ada")
    await eventually(lambda: world.gateway.probes > 0, "the gateway is probed")
    # A new agent's clock may begin in the past.
    at = world.clock.now - 30 * DAY
    instance = await moved(world, booting, at)
    world.gateway.is_started = True
    await world.settled(instance)
    assert instance.clock is not None
    assert world.gateway.clocks == [header_of(instance.clock)]


async def test_a_server_that_starts_sets_clocks_that_an_earlier_one_wrote(world: World) -> None:
    instance = await world.created()
    clock = AgentClock(offset_ms=1000)
    await world.instances.change(instance.id, now=world.clock.now, clock=clock)
    await world.agents.end_leftover_drains()
    assert world.gateway.clocks == [header_of(clock)]


async def test_a_fork_and_a_restored_agent_have_the_clock_of_the_snapshot(world: World) -> None:
    instance = await moved(world, await world.created(), NEXT_YEAR, seed=7, sets_seed=True)
    snapshot = await world.snapshots.take(instance, None)
    later = await moved(world, instance, NEXT_YEAR + DAY)
    fork = await world.forks.fork_snapshot(world.organization_id, snapshot.id, "fork")
    restored = await world.restores.restore(world.organization_id, later, snapshot.id)
    assert instance.clock is not None
    assert instance.clock.seed == 7
    assert (fork.clock, restored.clock) == (instance.clock, instance.clock)
    for each in (fork, restored):
        booted = await world.settled(each)
        assert world.engine.files[booted.sandbox_id][CLOCK_FILE] == record_of(instance.clock)


@pytest.mark.skipif(sys.platform != "linux", reason="the transfer runs in sandboxes only")
async def test_a_warm_sandbox_gets_the_clock_of_the_fork_that_claims_it(tmp_path: Path) -> None:
    async with open_world(tmp_path, warm_pool_size=1) as world:
        world.programs.answers["sessions.delete"] = done()
        original = await world.created()
        home = of_folder(agent_at(tmp_path / "original", "teal").parent)
        world.engine.put_home(original.sandbox_id, home)
        original = await moved(world, original, NEXT_YEAR)
        world.engine.furnish = lambda home: agent_at(home, "warm-up")
        while await world.pool.adjust():
            pass
        world.gateway.clocks.clear()
        fork = await world.settled(await world.forks.fork(original, "Bea"))
        assert fork.sandbox_id == world.engine.warm_sandboxes[-1]
        assert original.clock is not None
        assert world.gateway.clocks == [header_of(original.clock)]


async def test_the_clock_goes_back_only_while_nothing_is_planned(world: World) -> None:
    instance = await moved(world, await world.created(), NEXT_YEAR)
    instance = await moved(world, instance, NEXT_YEAR - DAY)
    world.gateway.rpc_answers["cron.list"] = jobs(job("daily", NEXT_YEAR))
    with pytest.raises(ClockRefused, match="it has jobs, whose next runs would stay"):
        await moved(world, instance, NEXT_YEAR - 2 * DAY)
    assert world.agent_times.now(await world.now(instance)) == NEXT_YEAR - DAY
    stopped = await world.lifecycle.stop(world.organization_id, instance.id)
    with pytest.raises(ClockRefused, match="only while it runs"):
        await moved(world, stopped, NEXT_YEAR - 2 * DAY)


async def test_the_clock_of_a_failed_agent_is_not_set(world: World) -> None:
    failed = await world.placed(InstanceStatus.ERROR)
    with pytest.raises(InstanceStateWrong):
        await moved(world, failed, NEXT_YEAR)


async def test_a_jump_has_the_scheduler_look_at_once(world: World) -> None:
    world.gateway.rpc_answers["cron.list"] = jobs(job("daily", NEXT_YEAR))
    world.gateway.rpc_answers["cron.add"] = ADDED
    await moved(world, await world.created(), NEXT_YEAR)
    assert world.gateway.called("cron.remove") == [{"id": "placeholder"}]


async def test_a_job_that_a_killed_server_left_goes_at_the_next_jump(world: World) -> None:
    left = {"id": "left", **PLACEHOLDER}
    gone = refused("Automation not found: left. List automations and retry.")
    world.gateway.rpc_answers["cron.list"] = ok({"jobs": [left]})
    world.gateway.rpc_answers["cron.remove"] = gone
    await moved(world, await world.created(), NEXT_YEAR)
    assert world.gateway.called("cron.remove") == [{"id": "left"}]


async def test_a_jump_waits_for_channels_that_openclaw_restarts_for_it(world: World) -> None:
    world.gateway.rpc_answers["cron.list"] = jobs(job("daily", NEXT_YEAR))
    suspended = refused("cron.add unavailable during gateway suspension", 503)
    world.gateway.rpc_answers["cron.add"] = [suspended, ADDED]
    await moved(world, await world.created(), NEXT_YEAR)
    assert world.gateway.called("cron.remove") == [{"id": "placeholder"}]


class Scheduler:
    """OpenClaw's jobs: each runs once the clock goes on from its time, for a virtual minute."""

    def __init__(self, world: World, due: dict[str, datetime | None]) -> None:
        self.world, self.due = world, due
        self.next: Callable[[str, datetime], datetime | None] = lambda _, at: at + DAY
        self.ran: list[tuple[str, datetime]] = []
        self.gateway: ScriptedGateway = world.gateway
        self._last: dict[str, int] = {}
        self._list()

    def _list(self) -> None:
        listed = [
            job(name, due, **({"lastRunAtMs": self._last[name]} if name in self._last else {}))
            for name, due in self.due.items()
        ]
        self.gateway.rpc_answers["cron.list"] = jobs(*listed)
        entries = [
            {
                "jobId": name,
                "ts": ms(at) + 60_000,
                "runAtMs": ms(at),
                "status": "ok",
                "summary": "x",
            }
            for name, at in reversed(self.ran)
        ]
        self.gateway.rpc_answers["cron.runs"] = ok({"entries": entries})

    def run_due(self, now: datetime) -> None:
        for name, due in self.due.items():
            if due is not None and due <= now:
                self.ran.append((name, now))
                self._last[name] = ms(now)
                self.due[name] = self.next(name, due)
        self._list()


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


@pytest.fixture
async def scheduler(world: World, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    scheduler = Scheduler(world, {})

    class Clocks(list[str]):
        def append(self, header: str) -> None:
            super().append(header)
            offset_ns, frozen_ns, _ = header.split()
            if frozen_ns == "0":
                scheduler.run_due(world.clock.now + timedelta(microseconds=int(offset_ns) // 1000))

    monkeypatch.setattr(world.gateway, "clocks", Clocks())
    return scheduler


async def test_the_clock_of_an_image_that_has_none_is_not_moved(world: World) -> None:
    instance = await world.created()
    world.gateway.has_clock = False
    with pytest.raises(ClockRefused, match="an older image"):
        await moved(world, instance, NEXT_YEAR)
    with pytest.raises(ClockRefused, match="an older image"):
        await world.feature(Clocks).advance(instance, NEXT_YEAR)
    assert world.agent_times.now(await world.now(instance)) == world.clock.now


async def test_an_advance_lets_each_job_run_at_its_time_in_order(
    world: World, scheduler: Scheduler
) -> None:
    instance = await world.created()
    start = world.clock.now
    scheduler.due |= {"daily": start + DAY / 2, "once": start + DAY, "later": start + 9 * DAY}
    scheduler.next = lambda name, at: at + DAY if name == "daily" else None
    scheduler._list()
    advance = await world.feature(Clocks).advance(instance, start + 2 * DAY)
    assert advance.has_arrived
    expected = [
        ("daily", start + DAY / 2),
        ("once", start + DAY),
        ("daily", start + DAY * 3 / 2),
    ]
    assert [(each.job, each.began_at) for each in advance.runs] == expected
    assert [(each.job, each.due_at) for each in advance.runs] == expected
    assert world.agent_times.now(advance.instance) == start + 2 * DAY
    # Before each time the clock stands still, so that the scheduler finds the job not yet due.
    assert [each.split()[1] == "0" for each in world.gateway.clocks] == [False, True] * 4
    assert len(world.gateway.called("cron.add")) == 4


async def test_an_advance_to_the_next_job_ends_there(world: World, scheduler: Scheduler) -> None:
    instance = await world.created()
    due = world.clock.now + DAY
    scheduler.due |= {"daily": due}
    scheduler._list()
    advance = await world.feature(Clocks).advance(instance, None)
    assert [each.job for each in advance.runs] == ["daily"]
    assert world.agent_times.now(advance.instance) == due


async def test_an_advance_without_jobs_only_moves_the_clock(world: World) -> None:
    instance = await world.created()
    advance = await world.feature(Clocks).advance(instance, NEXT_YEAR)
    assert (advance.runs, advance.has_arrived) == ([], True)
    assert world.agent_times.now(advance.instance) == NEXT_YEAR


async def test_an_advance_ends_after_so_many_runs(world: World, scheduler: Scheduler) -> None:
    instance = await world.created()
    start = world.clock.now
    scheduler.due |= {"daily": start + DAY}
    scheduler._list()
    advance = await world.feature(Clocks).advance(instance, start + 9 * DAY, limit=2)
    assert (len(advance.runs), advance.has_arrived) == (2, False)
    assert world.agent_times.now(advance.instance) == start + 2 * DAY


async def test_a_run_that_falls_due_during_anothers_turn_counts(
    world: World, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    start = world.clock.now
    scheduler.due |= {"long": start + DAY, "meanwhile": start + DAY + timedelta(minutes=2)}
    scheduler._list()
    run_due = scheduler.run_due

    def run_for_long(now: datetime) -> None:
        run_due(now)
        if scheduler.ran:
            run_due(now + timedelta(minutes=3))

    monkeypatch.setattr(scheduler, "run_due", run_for_long)
    advance = await world.feature(Clocks).advance(instance, start + 9 * DAY, limit=3)
    expected = [("long", 1), ("meanwhile", 1), ("long", 2), ("meanwhile", 2)]
    assert [(each.job, (each.due_at - start).days) for each in advance.runs] == expected
    assert not advance.has_arrived


async def test_an_advance_can_be_ended_and_no_other_begins_meanwhile(world: World) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["cron.list"] = jobs(
        job("endless", world.clock.now, runningAtMs=1, queuedAtMs=1)
    )
    advancing = asyncio.create_task(world.feature(Clocks).advance(instance, NEXT_YEAR))
    await eventually(lambda: bool(world.gateway.called("cron.remove")), "the advance has begun")
    with pytest.raises(ClockRefused, match="being moved on already"):
        await world.feature(Clocks).advance(instance, NEXT_YEAR)
    assert world.feature(Clocks).cancel(instance.id)
    assert not (await advancing).has_arrived
    assert not world.feature(Clocks).cancel(instance.id)


async def test_an_advance_of_an_agent_that_is_stopped_ends_with_its_runs(
    world: World, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    scheduler.due |= {"daily": world.clock.now + DAY}
    scheduler._list()
    run_due = scheduler.run_due

    def run_once(now: datetime) -> None:
        if not scheduler.ran:
            run_due(now)

    monkeypatch.setattr(scheduler, "run_due", run_once)
    advancing = asyncio.create_task(world.feature(Clocks).advance(instance, NEXT_YEAR))
    # A move adds and removes a job.
    await eventually(lambda: len(world.gateway.called("cron.remove")) == 2, "it waits for a run")
    await world.lifecycle.stop(world.organization_id, instance.id)
    with pytest.raises(AdvanceInterrupted, match=r"after 1 run: Instance is stopped") as ended:
        await advancing
    assert [each.job for each in cast("list[AdvancedRun]", ended.value.runs)] == ["daily"]


async def test_an_advance_waits_for_model_calls_that_a_job_has_begun(
    world: World, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    scheduler.due |= {"once": world.clock.now + DAY}
    scheduler.next = lambda *_: None
    scheduler._list()
    asked = 0

    class Call:
        outcome: str | None = None

    def of_instance(_: object) -> list[Call]:
        nonlocal asked
        asked += bool(scheduler.ran)
        Call.outcome = None if 0 < asked < 3 else "ok"
        return [Call()]

    monkeypatch.setattr(world.call_log, "of_instance", of_instance)
    await world.feature(Clocks).advance(instance, NEXT_YEAR)
    assert asked == 3


async def test_the_clock_moves_only_while_sub_agents_are_quiet(
    world: World, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    scheduler.due |= {"once": world.clock.now + DAY}
    scheduler._list()
    # A program in the background goes by real time.
    program = {"id": "program", "runtime": "cli", "status": "running"}
    helper = {"id": "helper", "runtime": "subagent", "updatedAt": ms(world.clock.now)}
    states = ({"status": "running"}, {"status": "completed", "deliveryStatus": "pending"}, None)
    world.gateway.rpc_answers["tasks.list"] = [
        ok({"tasks": [program, *([] if state is None else [helper | state])]}) for state in states
    ]
    looks: list[int] = []
    run_due = scheduler.run_due

    def note(now: datetime) -> None:
        looks.append(len(world.gateway.called("tasks.list")))
        run_due(now)

    monkeypatch.setattr(scheduler, "run_due", note)
    await world.feature(Clocks).advance(instance, NEXT_YEAR)
    assert looks[0] == len(states)


async def test_a_job_that_openclaw_passes_over_is_skipped(
    world: World, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    due = world.clock.now + DAY
    scheduler.due |= {"passed over": due}
    scheduler._list()

    def pass_over(now: datetime) -> None:
        scheduler.due["passed over"] = due + 9 * DAY
        scheduler._list()

    monkeypatch.setattr(scheduler, "run_due", pass_over)
    (run,) = (
        await world.feature(Clocks).advance(instance, NEXT_YEAR.replace(year=2026, month=5, day=6))
    ).runs
    assert (run.outcome, run.began_at) == ("skipped", due)


async def test_a_reset_gives_the_machines_time_even_to_an_agent_with_jobs_that_was_not_moved(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.rpc_answers["cron.list"] = jobs(job("daily", NEXT_YEAR))
    instance = await world.feature(Clocks).set(instance, RESET)
    assert instance.clock == AgentClock()
    await moved(world, instance, NEXT_YEAR, seed=7, sets_seed=True)
    with pytest.raises(ClockRefused):
        await world.feature(Clocks).set(instance, RESET)


async def test_a_job_that_openclaw_does_not_begin_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chowder_local.features.clock.service.START_TIMEOUT_S", 0)
    instance = await world.created()
    world.gateway.rpc_answers["cron.list"] = jobs(job("stuck", world.clock.now + DAY))
    with pytest.raises(GatewayUnavailable, match="does not begin the job 'stuck'"):
        await world.feature(Clocks).advance(instance, NEXT_YEAR)


async def test_an_advance_is_bounded_and_does_not_go_back(world: World) -> None:
    instance = await world.created()
    for until in (world.clock.now + 367 * DAY, world.clock.now - DAY):
        with pytest.raises(ClockRefused, match="by 366 days at most"):
            await world.feature(Clocks).advance(instance, until)


async def test_followers_see_the_clock_and_the_progress(world: World, scheduler: Scheduler) -> None:
    instance = await moved(world, await world.created(), NEXT_YEAR)
    scheduler.due |= {"once": NEXT_YEAR + DAY}
    scheduler.next = lambda *_: None
    scheduler._list()
    await world.feature(Clocks).advance(instance, NEXT_YEAR + 2 * DAY)
    seen = [each for each in world.events._kept if each.type.startswith("clock.")]
    assert [each.type for each in seen] == [
        EventType.CLOCK_SET, EventType.CLOCK_ADVANCED, EventType.CLOCK_ADVANCED
    ]  # fmt: skip
    assert [each.members.get("runs") for each in seen] == [None, 1, 1]


async def test_an_advance_outlasts_a_call_that_the_gateway_breaks_off(
    world: World, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await world.created()
    scheduler.due |= {"once": world.clock.now + DAY}
    scheduler.next = lambda *_: None
    scheduler._list()
    run_due = scheduler.run_due

    def run_and_break_off(now: datetime) -> None:
        run_due(now)
        listed = world.gateway.rpc_answers["cron.list"]
        assert isinstance(listed, tuple)
        world.gateway.rpc_answers["cron.list"] = [refused("busy", 503), listed]

    monkeypatch.setattr(scheduler, "run_due", run_and_break_off)
    assert [
        each.job for each in (await world.feature(Clocks).advance(instance, NEXT_YEAR)).runs
    ] == ["once"]
