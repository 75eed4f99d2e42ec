"""The clocks of agents: set, and moved on from one due moment to the next."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio

from chowder_local.core.domain import AgentClock, InstanceStatus
from chowder_local.core.errors.agents import ClockRefused, GatewayUnavailable
from chowder_local.core.errors.requests import InstanceNotFound, InstanceStateWrong
from chowder_local.core.events import EventType
from chowder_local.openclaw.scheduler import is_own, read_jobs, read_runs, rearm, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.events import Events
    from chowder_local.instances.lifecycle.agents import Agent, Agents
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.openclaw.gateway import Gateway
    from chowder_local.relay.call_log import CallLog

    Jobs = Mapping[str, dict[str, Any]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MACHINE_CLOCK = AgentClock()
MAX_RUNS = 1000
LONGEST_ADVANCE = timedelta(days=366)
LEAD_MS = 20
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


@dataclass(frozen=True)
class JobRun:
    """A run of a job that an advance has let happen, by the agent's clock."""

    job_id: str
    job: str
    due_at: datetime
    began_at: datetime
    took_s: float
    status: str
    """`ok`, `error` or `skipped`, as OpenClaw has it."""
    error: str | None = None
    answer: str | None = None
    session_key: str | None = None


@dataclass(frozen=True)
class Advance:
    """What an advance has come to; it `has_arrived` unless the limit or a client ended it."""

    instance: Instance
    runs: list[JobRun]
    has_arrived: bool


@dataclass(eq=False, repr=False, kw_only=True)
class Clocks:
    """The clocks of agents. The row is set before the sandbox: a server that starts sets it."""

    agents: Agents
    residency: Residency
    call_log: CallLog
    events: Events
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._advancing: dict[InstanceId, asyncio.Event] = {}

    def time_of(self, instance: Instance) -> datetime:
        """The agent's time."""
        return (instance.clock or MACHINE_CLOCK).at(self.clock())

    def is_moved(self, instance: Instance) -> bool:
        """Whether the agent's time is not the machine's."""
        return abs(self.time_of(instance) - self.clock()) > timedelta(seconds=1)

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
            at = now if change.at is None else change.at
            jobs = await read_jobs(agent.gateway) if agent.row.is_in_memory else {}
            if at < now:
                _check_back(agent.row, at, now, has_jobs=any(map(_is_planned, jobs.values())))
            is_frozen = former.frozen_ms is not None
            if change.is_frozen is not None:
                is_frozen = change.is_frozen
            clock = _clock_at(at, machine_time, is_frozen=is_frozen)
            clock = replace(clock, seed=change.seed if change.sets_seed else former.seed)
            await self._write(agent, clock)
            if agent.row.is_in_memory:
                await agent.set_clock(agent.row.gateway_url)
                if _next_due_ms(jobs) is not None:
                    # OpenClaw's scheduler would look at the clock within a minute.
                    await rearm(agent.gateway)
            self._publish(agent.row, EventType.CLOCK_SET)
            return agent.row

    async def advance(
        self, instance: Instance, until: datetime | None, limit: int = MAX_RUNS
    ) -> Advance:
        """Moves the clock on to a time, or to the next due moment if it is None.

        Each job that falls due on the way runs at its time; returns when the agent is quiet, or
        after `limit` runs or a `cancel`. What has happened stays if the caller is cancelled.
        Raises ClockRefused if the clock is being moved on already or would go back, and
        InstanceStateWrong if the agent does not run.
        """
        if instance.id in self._advancing:
            raise ClockRefused("The agent's clock is being moved on already.")
        cancelled = self._advancing[instance.id] = asyncio.Event()
        try:
            async with self.residency.using(instance) as running:
                return await self._advance(running, until, limit, cancelled)
        finally:
            del self._advancing[instance.id]

    def cancel(self, instance_id: InstanceId) -> bool:
        """Ends an advance, which returns what has happened so far; False if there is none."""
        if (cancelled := self._advancing.get(instance_id)) is None:
            return False
        cancelled.set()
        return True

    async def _advance(
        self, instance: Instance, until: datetime | None, limit: int, cancelled: asyncio.Event
    ) -> Advance:
        gateway = self.agents.gateway_of(instance.sandbox_id, instance.gateway_url)
        jobs = await read_jobs(gateway)
        is_single = until is None
        if until is None:
            due_ms = _next_due_ms(jobs)
            until = self.time_of(instance) if due_ms is None else _time_of_ms(due_ms)
            until = max(until, self.time_of(instance))
        elif not timedelta() <= until - self.time_of(instance) <= LONGEST_ADVANCE:
            raise ClockRefused(
                f"The agent's clock is at {self.time_of(instance):%Y-%m-%d %H:%M:%S} (UTC); one "
                f"call moves it on by {LONGEST_ADVANCE.days} days at most."
            )
        runs: list[JobRun] = []
        while (due_ms := _next_due_ms(jobs)) is not None and _time_of_ms(due_ms) <= until:
            if len(runs) >= limit or cancelled.is_set():
                return Advance(instance, runs, has_arrived=False)
            with anyio.CancelScope(shield=True):
                instance = await self._move_to(instance, _time_of_ms(due_ms), LEAD_MS)
            batch = {key: job for key, job in jobs.items() if _is_due(job, due_ms)}
            jobs = await self._wait_for_runs(gateway, batch, cancelled)
            runs += await _runs_of(gateway, batch, jobs)
            await self._wait_until_quiet(instance.id, cancelled)
            self._publish(
                instance, EventType.CLOCK_ADVANCED, until=until.isoformat(), runs=len(runs)
            )
            if is_single:
                break
        if not cancelled.is_set() and self.time_of(instance) < until:
            with anyio.CancelScope(shield=True):
                instance = await self._move_to(instance, until)
            self._publish(
                instance, EventType.CLOCK_ADVANCED, until=until.isoformat(), runs=len(runs)
            )
        return Advance(instance, runs, has_arrived=not cancelled.is_set())

    async def _move_to(self, stale: Instance, at: datetime, lead_ms: int = 0) -> Instance:
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
                before = max(at - timedelta(milliseconds=lead_ms), now)
                standing = _clock_at(before, machine_time, is_frozen=True)
                await agent.gateway.set_clock(replace(standing, seed=former.seed))
            await rearm(agent.gateway)
            await agent.set_clock(agent.row.gateway_url)
            return agent.row

    async def _wait_for_runs(
        self, gateway: Gateway, batch: Jobs, cancelled: asyncio.Event
    ) -> dict[str, dict[str, Any]]:
        """All jobs, once those of the batch have run, or the advance is cancelled.

        Raises GatewayUnavailable if OpenClaw does not begin one.
        """
        pause_s, ends_s = FIRST_POLL_S, time.monotonic() + START_TIMEOUT_S
        while True:
            jobs = await read_jobs(gateway)
            waiting = [key for key, job in batch.items() if _waits(job, jobs.get(key))]
            if cancelled.is_set() or not waiting:
                return jobs
            if any(_is_running(jobs[key]) for key in waiting):
                ends_s = time.monotonic() + START_TIMEOUT_S
            elif time.monotonic() >= ends_s:
                name = batch[waiting[0]].get("name")
                raise GatewayUnavailable(f"OpenClaw does not begin the job {name!r}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * POLL_GROWTH, LONGEST_POLL_S)

    async def _wait_until_quiet(self, instance_id: InstanceId, cancelled: asyncio.Event) -> None:
        """Waits for the agent's model calls, as of a sub-agent that a job has begun."""
        while not cancelled.is_set():
            if all(each.outcome is not None for each in self.call_log.of_instance(instance_id)):
                return
            await asyncio.sleep(FIRST_POLL_S)

    async def _write(self, agent: Agent, clock: AgentClock) -> None:
        if not await agent.update(clock=clock):
            raise InstanceNotFound

    def _publish(self, instance: Instance, event: EventType, **members: Any) -> None:
        now = self.time_of(instance).isoformat(timespec="milliseconds")
        self.events.publish(event, instance.organization_id, instance.id, now=now, **members)


def _clock_at(at: datetime, machine_time: datetime, *, is_frozen: bool) -> AgentClock:
    """A clock that has a time at a time of the machine."""
    return AgentClock(_ms(at - machine_time), _ms(at - EPOCH) if is_frozen else None)


def _ms(distance: timedelta) -> int:
    return distance // timedelta(milliseconds=1)


def _time_of_ms(at_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=at_ms)


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


def _is_planned(job: dict[str, Any]) -> bool:
    return is_own(job) and state_of(job, "nextRunAtMs") is not None


def _next_due_ms(jobs: Jobs) -> int | None:
    return min(
        filter(None, (state_of(each, "nextRunAtMs") for each in jobs.values())), default=None
    )


def _is_due(job: dict[str, Any], at_ms: int) -> bool:
    next_ms = state_of(job, "nextRunAtMs")
    return next_ms is not None and next_ms <= at_ms


def _is_running(job: dict[str, Any]) -> bool:
    return any(state_of(job, name) is not None for name in ("queuedAtMs", "runningAtMs"))


def _waits(before: dict[str, Any], job: dict[str, Any] | None) -> bool:
    """Whether a job that was due has not run to its end; one that ran only once may be gone."""
    if job is None:
        return False
    seen = ("nextRunAtMs", "lastRunAtMs")
    return _is_running(job) or all(state_of(job, each) == state_of(before, each) for each in seen)


async def _runs_of(gateway: Gateway, batch: Jobs, jobs: Jobs) -> list[JobRun]:
    """The runs of a batch, in order of their beginnings; of OpenClaw's own jobs it lists none."""
    latest = await read_runs(gateway, 2 * len(batch) + 10)
    by_job = {str(each.get("jobId")): each for each in reversed(latest)}
    runs = []
    for key, before in batch.items():
        state = (jobs.get(key) or before).get("state") or {}
        due_ms = state_of(before, "nextRunAtMs") or 0
        entry = by_job.get(key) or {}
        if int(entry.get("ts") or 0) < due_ms:
            entry = {}
        runs.append(
            JobRun(
                job_id=key,
                job=str(before.get("name")),
                due_at=_time_of_ms(due_ms),
                began_at=_time_of_ms(entry.get("runAtMs") or state.get("lastRunAtMs") or due_ms),
                took_s=(entry.get("durationMs") or state.get("lastDurationMs") or 0) / 1000,
                status=str(entry.get("status") or state.get("lastRunStatus") or "skipped"),
                error=entry.get("error") or state.get("lastError"),
                answer=entry.get("summary"),
                session_key=entry.get("sessionKey"),
            )
        )
    return sorted(runs, key=lambda each: each.began_at)
