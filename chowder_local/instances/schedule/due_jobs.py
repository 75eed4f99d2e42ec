"""Follows the jobs of agents: wakes the agents in time, and compares due times with runs.

An agent without jobs is never asked. The server learns of jobs by its own calls, by an agent's use
of its tool, by the model calls of a job, and before an agent hibernates.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chowder_local.core import logs
from chowder_local.core.domain import AgentClock, InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.events import EventType
from chowder_local.core.tasks import logging_errors
from chowder_local.openclaw.jobs import JobKind, read_jobs, read_runs
from chowder_local.relay.prompt_format import JOB_SESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.events import Events
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.jobs import Job, JobRun
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.store.due_jobs import DueJobQueries
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

WAKE_LEAD = timedelta(seconds=90)
"""So long before a due time a hibernated agent is woken at least: one with jobs always boots, which
takes about ten seconds, and more than a minute on a machine with ten times the work that it can
do. OpenClaw puts off what is overdue at its start by two minutes."""
LONGEST_LEAD = timedelta(minutes=5)
MISSED_AFTER = timedelta(seconds=30)
"""A run that has not begun so long after its due time counts as missed."""
TOLERANCE = timedelta(seconds=1)
LOOK_AFTER_S = 0.3
"""In the first moments after a due time or the beginning of a run."""
FRESH_S = 2.0
LOOK_INTERVAL_S = 1.0
"""While a run is in progress or overdue. Its model calls are a reason to look, too."""
LONGEST_INTERVAL_S = 10.0
ASLEEP_INTERVAL_S = 2.0
"""For an agent that does not run, whose row is then only read."""
LONGEST_WAIT_S = 3600.0
MAX_RUNS = 50
MAX_NAME = 200
LARGE_ANSWER_BYTES = 64 * 1024
"""A larger answer is not parsed: the jobs are looked at."""
JOB_TOOLS = {"automations", "cron"}
_JOB_MARK = JOB_SESSIONS.encode()
_TOOL_MARKS = tuple(f'"{each}"'.encode() for each in (*JOB_TOOLS, "tool_call"))


@dataclass(eq=False)
class _Followed:
    """An agent whose jobs are followed."""

    instance_id: InstanceId
    jobs: dict[str, Job] | None = None
    """As they were at the latest look; None before the first."""
    due_at: datetime | None = None
    """The next due time, as it is stored."""
    overdue: dict[str, datetime] = field(default_factory=dict)
    """Due times that have passed, by job, until the run begins or counts as missed."""
    latest_due: dict[str, datetime] = field(default_factory=dict)
    """The latest due times that have passed, by job."""
    began: dict[str, datetime] = field(default_factory=dict)
    """The runs in progress, by job."""
    is_stale: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    moves: int = 0
    """How often the agent's clock has been moved over due times."""
    hold: AsyncExitStack | None = None
    """Holds the agent in memory from shortly before a due time to the end of the run."""

    @property
    def is_busy(self) -> bool:
        return bool(self.overdue or self.began)

    def look_again(self) -> None:
        self.is_stale = True
        self.changed.set()


def next_due(jobs: Iterable[Job]) -> datetime | None:
    """When the next of the jobs is due that an agent has to be in memory for."""
    # OpenClaw's own upkeep waits until the agent is back.
    times = (each.next_run_at for each in jobs if each.kind is not JobKind.SYSTEM)
    return min((each for each in times if each is not None), default=None)


@dataclass(eq=False, repr=False, kw_only=True)
class DueJobs:
    """Follows each agent that has jobs in a task of its own."""

    instances: InstanceQueries
    queries: DueJobQueries
    use: Callable[[Instance], AbstractAsyncContextManager[Instance]]
    """`Residency.using`."""
    gateway_of: GatewayOf
    events: Events
    group: asyncio.TaskGroup
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._followed: dict[InstanceId, _Followed] = {}
        self._changing: set[InstanceId] = set()
        """Agents whose model has just asked for a change of their jobs."""
        self._moving: set[InstanceId] = set()
        self._lead = WAKE_LEAD

    def time_of(self, instance: Instance) -> datetime:
        """The agent's time."""
        return (instance.clock or AgentClock()).at(self.clock())

    async def begin(self) -> None:
        """Follows the agents again that an earlier server process has followed."""
        for instance_id, due_at in (await self.queries.all()).items():
            self._follow(instance_id).due_at = due_at

    async def note(self, instance: Instance, jobs: Sequence[Job]) -> None:
        """Takes note of all jobs that an agent has now."""
        await self._note_switched_on(instance, jobs)
        due_at = next_due(jobs)
        if instance.id in self._followed or due_at is not None:
            followed = self._follow(instance.id)
            await self._store(followed, due_at)
            followed.changed.set()

    def is_followed(self, instance_id: InstanceId | None) -> bool:
        """Whether the agent is known to have jobs."""
        return instance_id in self._followed

    def is_due_soon(self, instance: Instance, jobs: Iterable[Job]) -> bool:
        """Whether an agent would have to come back before it is worth its while to leave."""
        due_at = next_due(jobs)
        return due_at is not None and due_at - self.time_of(instance) < 2 * self._lead

    def look_again(self, instance_id: InstanceId) -> None:
        """The agent's jobs or its clock may have changed."""
        if (followed := self._followed.get(instance_id)) is not None:
            followed.look_again()

    @contextmanager
    def moving_clock(self, instance_id: InstanceId) -> Iterator[None]:
        """While the agent's clock is moved over due times.

        These are not missed: their jobs run late.
        """
        self._moving.add(instance_id)
        try:
            yield
        finally:
            self._moving.discard(instance_id)
            if (followed := self._followed.get(instance_id)) is not None:
                followed.moves += 1
                followed.jobs = None
                followed.overdue.clear()
                followed.look_again()

    def note_call(self, call: ModelCall) -> None:
        """Takes note of a model call, at its beginning and at its end."""
        instance_id = call.instance_id
        if instance_id is None:
            return
        if call.outcome is None and instance_id in self._changing:
            # The tool has run by now.
            self._changing.discard(instance_id)
            self._follow(instance_id).look_again()
        elif call.outcome is not None and _changes_jobs(call):
            self._changing.add(instance_id)
        # The search alone is quick, and nearly all calls end with it.
        if _JOB_MARK in call.body and (call.session_key or "").startswith(JOB_SESSIONS):
            self._follow(instance_id).look_again()

    def _follow(self, instance_id: InstanceId) -> _Followed:
        if (followed := self._followed.get(instance_id)) is None:
            followed = self._followed[instance_id] = _Followed(instance_id)
            self.group.create_task(self._run(followed), name=f"jobs of {instance_id}")
        return followed

    async def _run(self, followed: _Followed) -> None:
        with logs.for_instance(followed.instance_id):
            try:
                wait_s: float | None = 0.0
                while wait_s is not None:
                    try:
                        async with asyncio.timeout(wait_s):
                            await followed.changed.wait()
                    except TimeoutError:
                        pass
                    followed.changed.clear()
                    wait_s = LONGEST_INTERVAL_S
                    with logging_errors(f"instance {followed.instance_id}: following its jobs"):
                        wait_s = await self._step(followed)
            finally:
                del self._followed[followed.instance_id]
                await self._release(followed)

    async def _step(self, followed: _Followed) -> float | None:
        """Does what is due, and returns after how many seconds to go on; None if no job is left."""
        instance = await self.instances.get(followed.instance_id)
        if instance is None or instance.status is InstanceStatus.TERMINATED:
            return None
        if instance.id in self._moving:
            return ASLEEP_INTERVAL_S
        if instance.status is not InstanceStatus.RUNNING:
            await self._release(followed)
            # Its jobs may be others when it runs again, such as those of a snapshot.
            followed.is_stale = True
            return ASLEEP_INTERVAL_S
        try:
            return await self._step_running(followed, instance)
        except ChowderError as problem:
            log.info("instance %s: its jobs cannot be looked at: %s", instance.id, problem)
            return ASLEEP_INTERVAL_S

    async def _step_running(self, followed: _Followed, instance: Instance) -> float | None:
        now = self.time_of(instance)
        self._tell_due(followed, instance, now)
        is_near = followed.due_at is not None and followed.due_at - now <= self._lead
        if is_near or followed.is_busy:
            instance = await self._hold(followed, instance)
        if instance.is_in_memory and (followed.is_stale or followed.is_busy):
            await self._look(followed, instance)
        now = self.time_of(instance)
        if followed.due_at is None and not followed.is_busy and followed.jobs is not None:
            await self._release(followed)
            return None if not followed.is_stale else 0.0
        if followed.is_busy:
            return _patience_s(followed, now)
        if followed.due_at is None:
            return ASLEEP_INTERVAL_S
        wait = followed.due_at - now
        if wait <= timedelta():
            # OpenClaw puts it off, and says so nowhere.
            followed.is_stale = True
            return LONGEST_INTERVAL_S
        if wait > self._lead:
            await self._release(followed)
            wait -= self._lead
        return min(max(wait.total_seconds(), 0.0), LONGEST_WAIT_S)

    def _tell_due(self, followed: _Followed, instance: Instance, now: datetime) -> None:
        for job in (followed.jobs or {}).values():
            due_at = job.next_run_at
            is_new = followed.latest_due.get(job.id) != due_at
            if due_at is not None and due_at <= now and is_new and job.running_since is None:
                followed.overdue[job.id] = followed.latest_due[job.id] = due_at
                self._publish(EventType.JOB_DUE, instance, job, due_at=due_at.isoformat())

    async def _hold(self, followed: _Followed, instance: Instance) -> Instance:
        """The instance in memory; a hibernated one comes back."""
        if followed.hold is None:
            was_hibernated, began_s = instance.is_hibernated, time.monotonic()
            async with AsyncExitStack() as stack:
                instance = await stack.enter_async_context(self.use(instance))
                followed.hold = stack.pop_all()
            if was_hibernated:
                # On a busy machine the next one takes as long.
                took = timedelta(seconds=time.monotonic() - began_s)
                self._lead = min(max(2 * took, WAKE_LEAD), LONGEST_LEAD)
        return instance

    async def _release(self, followed: _Followed) -> None:
        hold, followed.hold = followed.hold, None
        if hold is not None:
            await hold.aclose()

    async def _look(self, followed: _Followed, instance: Instance) -> None:
        """Compares the jobs with those of the latest look, and tells what has happened."""
        followed.is_stale = False
        moves = followed.moves
        gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
        answer = await gateway.call("cron.list", {"includeDisabled": True})
        # An agent may have very many.
        listed = {each.id: each for each in await asyncio.to_thread(read_jobs, answer)}
        if followed.moves != moves or instance.id in self._moving:
            # They may be as before the move, which ends with another look.
            return
        former, followed.jobs = followed.jobs, listed
        now = self.time_of(instance)
        for job in listed.values():
            known = None if former is None else former.get(job.id)
            await self._compare(followed, instance, gateway, known, job, now)
        for job_id in (followed.overdue.keys() | followed.began.keys()) - listed.keys():
            # OpenClaw deletes one-time jobs of its own after their run.
            runs = await _runs(gateway, {"scope": "all"})
            since = followed.overdue.pop(job_id, None) or followed.began.get(job_id) or now
            gone = (former or {}).get(job_id)
            for run in runs:
                if run.job_id == job_id and run.began_at >= since - TOLERANCE and gone is not None:
                    self._tell_ended(followed, instance, gone, run)
            followed.began.pop(job_id, None)
        await self._note_switched_on(instance, listed.values())
        await self._store(followed, next_due(listed.values()))

    async def _note_switched_on(self, instance: Instance, jobs: Iterable[Job]) -> None:
        """Forgets that jobs were switched off in a copy which somebody has switched on again."""
        switched_on = instance.switched_off_jobs & {each.id for each in jobs if each.is_enabled}
        if switched_on:
            still_off = instance.switched_off_jobs - switched_on
            await self.instances.change(instance.id, now=self.clock(), switched_off_jobs=still_off)

    async def _compare(
        self,
        followed: _Followed,
        instance: Instance,
        gateway: Gateway,
        former: Job | None,
        job: Job,
        now: datetime,
    ) -> None:
        ended_at = None if job.last_run is None else job.last_run.at
        former_ended_at = former.last_run.at if former and former.last_run else None
        latest = max(
            (each for each in (ended_at, job.running_since) if each is not None), default=None
        )
        due_at = followed.overdue.get(job.id)
        if due_at is not None and latest is not None and latest >= due_at - TOLERANCE:
            del followed.overdue[job.id]
        elif due_at is not None and now > due_at + MISSED_AFTER:
            del followed.overdue[job.id]
            log.warning("instance %s: its job %s has missed %s", instance.id, job.id, due_at)
            self._publish(EventType.JOB_MISSED, instance, job, due_at=due_at.isoformat())
        if former is not None and ended_at is not None and ended_at != former_ended_at:
            for run in reversed(await _runs(gateway, {"id": job.id})):
                if former_ended_at is None or run.began_at > former_ended_at:
                    self._tell_ended(followed, instance, job, run)
        if job.running_since is None:
            followed.began.pop(job.id, None)
        elif followed.began.get(job.id) != job.running_since:
            self._tell_began(followed, instance, job, job.running_since)

    def _tell_began(
        self, followed: _Followed, instance: Instance, job: Job, began_at: datetime
    ) -> None:
        followed.began[job.id] = began_at
        self._publish(EventType.JOB_BEGAN, instance, job, began_at=began_at.isoformat())

    def _tell_ended(self, followed: _Followed, instance: Instance, job: Job, run: JobRun) -> None:
        if followed.began.pop(job.id, None) is None:
            # It was too short to be seen.
            self._publish(EventType.JOB_BEGAN, instance, job, began_at=run.began_at.isoformat())
        self._publish(
            EventType.JOB_ENDED,
            instance,
            job,
            run_id=run.id,
            began_at=run.began_at.isoformat(),
            outcome=run.outcome,
            is_forced=run.is_forced,
        )

    def _publish(self, kind: EventType, instance: Instance, job: Job, **members: Any) -> None:
        self.events.publish(
            kind,
            instance.organization_id,
            instance.id,
            job_id=job.id,
            job=job.name[:MAX_NAME],
            **members,
        )

    async def _store(self, followed: _Followed, due_at: datetime | None) -> None:
        if due_at != followed.due_at:
            await self.queries.put(followed.instance_id, due_at)
            followed.due_at = due_at


def _patience_s(followed: _Followed, now: datetime) -> float:
    """After how many seconds to look at a run again: the longer it takes, the later."""
    latest = max((*followed.overdue.values(), *followed.began.values()))
    since_s = (now - latest).total_seconds()
    if since_s < FRESH_S:
        return LOOK_AFTER_S
    return min(max(since_s / 10, LOOK_INTERVAL_S), LONGEST_INTERVAL_S)


async def _runs(gateway: Gateway, which: dict[str, str]) -> list[JobRun]:
    return read_runs(await gateway.call("cron.runs", {**which, "limit": MAX_RUNS}))


def _changes_jobs(call: ModelCall) -> bool:
    """Whether the model has called the agent's tool for jobs, perhaps by its search of tools."""
    answer = call.answer
    if not any(each in answer for each in _TOOL_MARKS):
        return False
    return len(answer) > LARGE_ANSWER_BYTES or any(
        each.name in JOB_TOOLS or each.arguments.get("id") in JOB_TOOLS
        for each in call.output.calls
    )
