"""The clocks of agents: set, and moved on from one due moment to the next."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio

from chowder_local.core.domain import AgentClock, InstanceStatus
from chowder_local.core.errors.agents import GatewaySuspended, GatewayUnavailable
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.events import EventType
from chowder_local.core.tasks import ended_by
from chowder_local.features.clock.errors import AdvanceInterrupted, ClockRefused
from chowder_local.features.clock.runs import AdvancedRuns, is_running, waits
from chowder_local.instances.schedule.agent_times import EPOCH, MACHINE_CLOCK
from chowder_local.openclaw.jobs import JobKind
from chowder_local.openclaw.scheduler import list_jobs, list_runs, rearm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.events import Events
    from chowder_local.features.clock.runs import AdvancedRun, Jobs
    from chowder_local.instances.conversations.activity import Activities
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.instances.schedule.agent_times import AgentTimes
    from chowder_local.instances.schedule.due_jobs import DueJobs
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.openclaw.jobs import Job, JobRun
    from chowder_local.relay.call_log import CallLog

MAX_RUNS = 1000
LONGEST_ADVANCE = timedelta(days=366)
LEAD = timedelta(milliseconds=20)
"""OpenClaw waits two seconds for a job that is due already, but not for one that is about to be."""
FIRST_POLL_S = 0.05
LONGEST_POLL_S = 0.5
POLL_GROWTH = 1.3
START_TIMEOUT_S = 90.0
"""OpenClaw's scheduler looks at its jobs once a minute at least."""


@dataclass(frozen=True)
class ClockChange:
    """What becomes of a clock; None leaves it as it is. `seed` counts if `sets_seed`."""

    at: datetime | None = None
    is_frozen: bool | None = None
    seed: int | None = None
    sets_seed: bool = False
    is_reset: bool = False
    """Whether the time is the machine's."""


RESET = ClockChange(is_frozen=False, sets_seed=True, is_reset=True)


@dataclass(frozen=True)
class Advance:
    """What an advance has come to; it `has_arrived` unless the limit or a client ended it."""

    instance: Instance
    runs: list[AdvancedRun]
    has_arrived: bool


@dataclass(eq=False, repr=False, kw_only=True)
class Clocks:
    """The clocks of agents. The row is set before the sandbox: a server that starts sets it."""

    times: AgentTimes
    agents: Agents
    residency: Residency
    due_jobs: DueJobs
    call_log: CallLog
    activities: Activities
    events: Events
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._advancing: dict[InstanceId, asyncio.Event] = {}

    async def set(self, instance: Instance, change: ClockChange) -> Instance:
        """The instance with its clock changed, for its programs at once if it is in memory.

        The clock of another one counts from its next start. Raises ClockRefused if it would go
        back, and InstanceStateWrong if the instance has failed or is deleted.
        """
        if instance.status is InstanceStatus.RUNNING:
            async with self.residency.using(instance) as running:
                return await self._set(running, change)
        return await self._set(instance, change)

    async def _set(self, stale: Instance, change: ClockChange) -> Instance:
        async with self.agents.holding(stale) as agent:
            if agent.row.status in {InstanceStatus.ERROR, InstanceStatus.TERMINATED}:
                raise InstanceStateWrong(
                    agent.row.status, "running or stopped", agent.row.error_message
                )
            former = agent.row.clock or MACHINE_CLOCK
            machine_time = self.clock()
            now = former.at(machine_time)
            at = machine_time if change.is_reset else change.at or now
            if agent.row.is_in_memory:
                await _check_movable(agent.gateway)
            jobs = await list_jobs(agent.gateway) if agent.row.is_in_memory else {}
            if at < now:
                _check_back(agent.row, at, now, has_jobs=any(map(_is_planned, jobs.values())))
            is_frozen = former.frozen_ms is not None
            if change.is_frozen is not None:
                is_frozen = change.is_frozen
            clock = _clock_at(at, machine_time, is_frozen=is_frozen)
            clock = replace(clock, seed=change.seed if change.sets_seed else former.seed)
            with self.due_jobs.moving_clock(agent.row.id):
                await self._write(agent, clock)
                if agent.row.is_in_memory:
                    await agent.set_clock(agent.row.gateway_url)
                    # OpenClaw's scheduler would look at the clock within a minute.
                    await _rearm(agent.gateway, jobs)
            self._publish(agent.row, EventType.CLOCK_SET)
            return agent.row

    async def advance(
        self, instance: Instance, until: datetime | None, limit: int = MAX_RUNS
    ) -> Advance:
        """Moves the clock on to a time, or to the next due moment if it is None.

        Each job that falls due on the way runs at its time; returns when the agent is quiet, or
        after `limit` runs or a `cancel`. What has happened stays if the caller is cancelled.
        Raises ClockRefused if the clock is being moved on already or would go back, and
        InstanceStateWrong if the agent does not run, and AdvanceInterrupted as soon as it does not
        any more.
        """
        if instance.id in self._advancing:
            raise ClockRefused("The agent's clock is being moved on already.")
        cancelled = self._advancing[instance.id] = asyncio.Event()
        try:
            async with self.residency.using(instance) as running:
                runs = AdvancedRuns()
                try:
                    async with self._while_running(running):
                        return await self._advance(running, until, limit, cancelled, runs)
                except (InstanceStateWrong, InstanceNotFound) as left:
                    raise AdvanceInterrupted(str(left), runs.in_order()) from left
        finally:
            del self._advancing[instance.id]

    def cancel(self, instance_id: InstanceId) -> bool:
        """Ends an advance, which returns what has happened so far; False if there is none."""
        if (cancelled := self._advancing.get(instance_id)) is None:
            return False
        cancelled.set()
        return True

    @asynccontextmanager
    async def _while_running(self, instance: Instance) -> AsyncIterator[None]:
        """Ends the block with InstanceStateWrong as soon as the instance does not run any more.

        Its gateway may then not even refuse calls.
        """

        async def watch() -> None:
            async for batch in follower.batches():
                for each in batch:
                    if each.type is EventType.INSTANCE_STATUS:
                        raise InstanceStateWrong(each.members["status"], InstanceStatus.RUNNING)

        with self.events.follow(instance.organization_id, instance_id=instance.id) as follower:
            async with ended_by(watch()):
                yield

    async def _advance(
        self,
        instance: Instance,
        until: datetime | None,
        limit: int,
        cancelled: asyncio.Event,
        runs: AdvancedRuns,
    ) -> Advance:
        if until is not None:
            self._check_distance(instance, until)
        gateway = self.agents.gateway_of(instance.sandbox_id, instance.gateway_url)
        await _check_movable(gateway)
        listed_at = self.times.now(instance)
        jobs, listed = await self._wait_until_quiet(instance, gateway, {}, listed_at, cancelled)
        runs.begin(jobs, listed)
        is_single = until is None
        if until is None:
            until = max(_next_due(jobs) or EPOCH, self.times.now(instance))
        while (due_at := _next_due(jobs)) is not None and due_at <= until:
            if len(runs) >= limit or cancelled.is_set():
                return Advance(instance, runs.in_order(), has_arrived=False)
            with anyio.CancelScope(shield=True):
                instance = await self._move_to(instance, due_at, jobs)
            batch = {key: job for key, job in jobs.items() if _is_due(job, due_at)}
            jobs, listed = await self._wait_until_quiet(
                instance, gateway, batch, listed_at, cancelled
            )
            listed_at = max((each.ended_at for each in listed), default=listed_at)
            runs.note(jobs, listed, self.times.now(instance))
            self._publish(
                instance, EventType.CLOCK_ADVANCED, until=until.isoformat(), runs=len(runs)
            )
            if is_single:
                break
        if not cancelled.is_set() and self.times.now(instance) < until:
            with anyio.CancelScope(shield=True):
                instance = await self._move_to(instance, until, jobs)
            self._publish(
                instance, EventType.CLOCK_ADVANCED, until=until.isoformat(), runs=len(runs)
            )
        return Advance(instance, runs.in_order(), has_arrived=not cancelled.is_set())

    def _check_distance(self, instance: Instance, until: datetime) -> None:
        now = self.times.now(instance)
        if not timedelta() <= until - now <= LONGEST_ADVANCE:
            raise ClockRefused(
                f"The agent's clock is at {now:%Y-%m-%d %H:%M:%S} (UTC); one call moves it on by "
                f"{LONGEST_ADVANCE.days} days at most."
            )

    async def _move_to(self, stale: Instance, at: datetime, jobs: Jobs) -> Instance:
        """Moves the clock on to a time, and has the scheduler see that; never moves it back.

        The row has the clock as it goes on. Meanwhile it stands shortly before, so that a job of
        that time is neither due when the scheduler looks, nor early.
        """
        async with self.agents.holding(stale, InstanceStatus.RUNNING) as agent:
            machine_time = self.clock()
            former = agent.row.clock or MACHINE_CLOCK
            now = former.at(machine_time)
            if at > now:
                moved = _clock_at(at, machine_time, is_frozen=former.frozen_ms is not None)
                await self._write(agent, replace(moved, seed=former.seed))
                before = max(at - LEAD, now)
                standing = _clock_at(before, machine_time, is_frozen=True)
                await agent.gateway.set_clock(replace(standing, seed=former.seed))
            await _rearm(agent.gateway, jobs)
            await agent.set_clock(agent.row.gateway_url)
            self.due_jobs.look_again(agent.row.id)
            return agent.row

    async def _wait_until_quiet(
        self,
        instance: Instance,
        gateway: Gateway,
        batch: Jobs,
        since: datetime,
        cancelled: asyncio.Event,
    ) -> tuple[Jobs, list[JobRun]]:
        """All jobs, once those of the batch have run and the agent does nothing any more.

        Or once the advance is cancelled. With the runs that have ended `since` a time. Raises
        GatewayUnavailable if OpenClaw does not begin a job, or does not answer for as long.
        """
        pause_s, ends_s = FIRST_POLL_S, time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                jobs = await list_jobs(gateway)
                waiting = [key for key, job in batch.items() if waits(job, jobs.get(key))]
                is_busy = bool(waiting) or await self._is_busy(instance, jobs)
                if cancelled.is_set() or not is_busy:
                    return jobs, await list_runs(gateway, since)
            except GatewayUnavailable:
                # A busy gateway may break off a call while it runs a job.
                if time.monotonic() >= ends_s:
                    raise
            else:
                if not waiting or any(is_running(jobs[key]) for key in waiting):
                    ends_s = time.monotonic() + START_TIMEOUT_S
                elif time.monotonic() >= ends_s:
                    name = batch[waiting[0]].name
                    raise GatewayUnavailable(f"OpenClaw does not begin the job {name!r}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * POLL_GROWTH, LONGEST_POLL_S)

    async def _is_busy(self, instance: Instance, jobs: Jobs) -> bool:
        """Whether a job runs, a model call is in progress, or a sub-agent works."""
        return (
            any(is_running(each) and not each.is_watching for each in jobs.values())
            or any(each.outcome is None for each in self.call_log.of_instance(instance.id))
            or await self.activities.has_subagents(instance)
        )

    async def _write(self, agent: Agent, clock: AgentClock) -> None:
        self.times.note_change(agent.row, clock)
        if not await agent.update(clock=clock):
            raise InstanceNotFound

    def _publish(self, instance: Instance, event: EventType, **members: Any) -> None:
        now = self.times.now(instance).isoformat(timespec="milliseconds")
        self.events.publish(event, instance.organization_id, instance.id, now=now, **members)


def _clock_at(at: datetime, machine_time: datetime, *, is_frozen: bool) -> AgentClock:
    """A clock that has a time at a time of the machine."""
    return AgentClock(_ms(at - machine_time), _ms(at - EPOCH) if is_frozen else None)


def _ms(distance: timedelta) -> int:
    return distance // timedelta(milliseconds=1)


async def _check_movable(gateway: Gateway) -> None:
    if not await gateway.has_clock():
        raise ClockRefused(
            "The sandbox is of an older image, which has no clock of its own. The instance gets "
            "this version's image at its next boot: unset CHOWDER_IMAGE if that names an older "
            "one, then make a snapshot of the instance and restore it."
        )


async def _rearm(gateway: Gateway, jobs: Jobs) -> None:
    ends_s = time.monotonic() + START_TIMEOUT_S
    while _next_due(jobs) is not None:
        try:
            await rearm(gateway)
        except GatewaySuspended:
            # OpenClaw takes the jump for a frozen process, and restarts its channels.
            if time.monotonic() >= ends_s:
                raise
            await asyncio.sleep(FIRST_POLL_S)
        else:
            return


def _check_back(instance: Instance, at: datetime, now: datetime, *, has_jobs: bool) -> None:
    """Raises ClockRefused unless nothing of the agent could be planned for a later time."""
    is_new = instance.first_ready_at is None and instance.origin_snapshot_id is None
    if is_new or (instance.is_in_memory and not has_jobs):
        return
    reason = (
        "it has jobs, whose next runs would stay where they are"
        if has_jobs
        else "only while it runs can be seen whether it has jobs, which would not follow"
    )
    raise ClockRefused(
        f"The agent's clock is at {now:%Y-%m-%d %H:%M:%S} and does not go back to "
        f"{at:%Y-%m-%d %H:%M:%S} (UTC): {reason}."
    )


def _is_planned(job: Job) -> bool:
    return job.kind is JobKind.USER and job.next_run_at is not None


def _next_due(jobs: Jobs) -> datetime | None:
    times = (each.next_run_at for each in jobs.values())
    return min((each for each in times if each is not None), default=None)


def _is_due(job: Job, at: datetime) -> bool:
    return job.next_run_at is not None and job.next_run_at <= at
