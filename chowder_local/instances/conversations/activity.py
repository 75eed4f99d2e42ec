"""What agents are doing: their turns and tasks in progress; waiting for their end, and ending them.

The relay has seen all turns. Tasks are OpenClaw's: it is asked for them when somebody wants to
know, and while somebody watches whenever something has happened that may begin or end one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cachetools import LRUCache

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors import ChowderError
from chowder_local.core.errors.agents import ActivityNotFound, RpcRefused
from chowder_local.core.errors.requests import InstanceNotFound
from chowder_local.core.events import EventType
from chowder_local.core.tasks import logging_errors
from chowder_local.openclaw.tasks import AGENTS, cancel_task, find_other_work, list_tasks
from chowder_local.relay.prompt_format import JOB_SESSIONS, TurnKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.core.events import Events
    from chowder_local.core.tasks import Shutdown
    from chowder_local.instances.conversations.trace_log import TracedTurn, TraceLog
    from chowder_local.instances.schedule.unasked_turns import UnaskedTurns
    from chowder_local.openclaw.gateway import Gateway, GatewayOf
    from chowder_local.openclaw.sandbox_exec import Control
    from chowder_local.openclaw.tasks import Task
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""As often, OpenClaw is asked for tasks that go on without a model call, while somebody waits."""
COLLECT_S = 0.2
"""What happens within this time is one reason to ask."""
ENDED_KEPT = 10_000
REPORT = timedelta(seconds=60)
"""So long after its end a task's report is waited for."""


@dataclass(frozen=True)
class Activity:
    """What an agent is doing; nothing of all that if it is idle."""

    turns: Sequence[TracedTurn] = ()
    tasks: Sequence[Task] = ()
    other: Sequence[str] = ()
    """What OpenClaw does besides."""
    since: datetime | None = None
    """Since when it is idle, or not; None if the server does not know."""
    problem: str | None = None
    """Why tasks are unknown, if they are."""

    @property
    def is_idle(self) -> bool:
        return not (self.turns or self.tasks or self.other)


@dataclass(eq=False, repr=False, kw_only=True)
class Activities:
    """What the agents are doing."""

    instances: InstanceQueries
    traces: TraceLog
    unasked_turns: UnaskedTurns
    gateway_of: GatewayOf
    control: Control
    events: Events
    shutdown: Shutdown
    group: asyncio.TaskGroup
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._watches: dict[InstanceId, asyncio.Task[None]] = {}
        self._ended: LRUCache[str, None] = LRUCache(ENDED_KEPT)
        """The tasks whose end is told."""
        self._unreported: LRUCache[str, float] = LRUCache(ENDED_KEPT)
        """Since when tasks are seen whose report is still to come."""

    async def current(self, instance: Instance, *, is_thorough: bool = True) -> Activity:
        """What an agent is doing. One that is not in memory does nothing, and stays where it is.

        If it `is_thorough`, OpenClaw is asked what it does besides, which takes some 0.2 s.
        """
        turns = self.traces.in_progress(instance.id)
        tasks: Sequence[Task] = ()
        other: Sequence[str] = ()
        problem = None
        if self._is_there(instance):
            try:
                listed = await list_tasks(self._gateway(instance))
                tasks = [each for each in listed if each.is_open]
                other = self._reports(instance, listed)
                if is_thorough and not (turns or tasks or other):
                    other = await find_other_work(self.control, instance.sandbox_id)
            except ChowderError as failure:
                problem = str(failure)
        began = [each.at for each in turns]
        began += [each.at for each in tasks if each.at is not None]
        since = min(began) if began else self._idle_since(instance.id)
        return Activity(turns, tasks, other, since, problem)

    async def has_subagents(self, instance: Instance) -> bool:
        """Whether a sub-agent of an agent in memory works, or is still to be reported.

        Raises GatewayUnavailable, RpcRefused.
        """
        listed = await list_tasks(self._gateway(instance))
        tasks = [each for each in listed if each.kind in AGENTS]
        return (
            any(each.is_open for each in tasks)
            or bool(self._reports(instance, tasks))
            or any(each.kind is TurnKind.SUBAGENT for each in self.traces.in_progress(instance.id))
        )

    def _reports(self, instance: Instance, tasks: Sequence[Task]) -> list[str]:
        """What agents are still to say of tasks that have ended; OpenClaw tries it for a while."""
        since = self._agent_time(instance, self.clock()) - REPORT
        # The agent's clock may stand still.
        now_s = time.monotonic()
        return [
            f"It is still to report: {each.title}"
            for each in tasks
            if not (each.is_open or each.is_reported)
            # OpenClaw reports nothing to the run of a job, which has ended.
            and not (each.session_key or "").startswith(JOB_SESSIONS)
            and each.updated_at is not None
            and each.updated_at >= since
            and now_s - self._unreported.setdefault(each.id, now_s) < REPORT.total_seconds()
            and not self.unasked_turns.has_reported(instance.sandbox_id, each.own_session_key or "")
        ]

    def _agent_time(self, instance: Instance, at: datetime) -> datetime:
        return at if instance.clock is None else instance.clock.at(at)

    async def wait_until_idle(self, instance_id: InstanceId, timeout_s: float) -> Activity:
        """What the agent is doing once it is idle, or after so many seconds.

        Raises InstanceNotFound if it is deleted meanwhile.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        with (
            self.traces.changes.watching() as changed,
            self.shutdown.on_shutdown(changed.set),
        ):
            while True:
                changed.clear()
                turns = self.traces.in_progress(instance_id)
                is_over = self.shutdown.has_begun or loop.time() >= until_s
                if is_over or not turns:
                    if (instance := await self.instances.get(instance_id)) is None:
                        raise InstanceNotFound
                    activity = await self.current(instance)
                    if is_over or (activity.is_idle and activity.problem is None):
                        return activity
                look_s = until_s if turns else min(until_s, loop.time() + LOOK_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(look_s):
                        await changed.wait()

    async def cancel(self, instance: Instance, item_id: str | None = None) -> list[str]:
        """Ends a turn or a task, or all; the ids of those that are ended.

        A sub-agent ends with the turn that has begun it. Raises ActivityNotFound if there is none
        with the id, GatewayUnavailable, RpcRefused, EngineUnavailable, SandboxMissing.
        """
        activity = await self.current(instance)
        turns = [each for each in activity.turns if item_id in (None, each.id)]
        tasks = [each for each in activity.tasks if item_id in (None, each.id)]
        if item_id is not None and not (turns or tasks):
            raise ActivityNotFound
        for turn in turns:
            await self.cancel_turn(instance, turn)
        for task in tasks:
            refused = await cancel_task(self._gateway(instance), task.id)
            if refused is not None:
                # It may have ended with its turn.
                log.info("instance %s: task %s is not cancelled: %s", instance.id, task.id, refused)
                continue
            for turn in self.traces.in_progress(instance.id):
                if turn.session_key is not None and turn.session_key == task.own_session_key:
                    self.unasked_turns.end_cancelled(turn)
        return [*(each.id for each in turns), *(each.id for each in tasks)]

    async def cancel_session(self, instance: Instance, session_key: str) -> list[str]:
        """Ends the turns of a session, and drops its messages that wait; the ids of the turns."""
        turns = [
            each for each in self.traces.in_progress(instance.id) if each.session_key == session_key
        ]
        for turn in turns:
            turn.cancel()
        await self._abort(instance, session_key)
        for turn in turns:
            self.unasked_turns.end_cancelled(turn)
        return [each.id for each in turns]

    async def cancel_turn(self, instance: Instance, turn: TracedTurn) -> None:
        """Ends a turn, and the sub-agents of its session."""
        turn.cancel()
        if turn.session_key is not None and self._is_there(instance):
            keys = [turn.session_key]
            if turn.kind is TurnKind.JOB:
                keys = await self.unasked_turns.running_keys(instance, turn.session_key)
            for key in keys:
                await self._abort(instance, key)
        self.unasked_turns.end_cancelled(turn)

    async def _abort(self, instance: Instance, session_key: str) -> None:
        # OpenClaw ends the sub-agents of the session, too.
        params = {"key": session_key, "clearQueued": True}
        try:
            await self.control.call(instance.sandbox_id, "sessions.abort", params)
        except RpcRefused as refused:
            log.info("instance %s: %s is not aborted: %s", instance.id, session_key, refused)

    def watch(self, turn: TracedTurn) -> None:
        """Something has happened that may begin or end a task, while somebody watches."""
        instance_id = turn.instance_id
        if instance_id not in self._watches:
            work = self._watch(instance_id, turn.at)
            self._watches[instance_id] = self.group.create_task(work, name="watching tasks")

    async def _watch(self, instance_id: InstanceId, began_at: datetime) -> None:
        """Tells the tasks that begin and end, until there are none and the agent is idle.

        One may end before anybody has asked for it, but one that had ended before the turn began at
        `began_at` is no news.
        """
        begun: dict[str, Task] = {}
        since: datetime | None = None
        try:
            with (
                logging_errors(f"instance {instance_id}: watching its tasks"),
                self.traces.changes.watching() as changed,
            ):
                is_over = False
                while not is_over:
                    await asyncio.sleep(COLLECT_S)
                    changed.clear()
                    instance = await self.instances.get(instance_id)
                    if instance is None or not self._is_there(instance):
                        return
                    if not self.events.is_watched(instance.organization_id):
                        return
                    since = since or self._agent_time(instance, began_at)
                    tasks = await list_tasks(self._gateway(instance))
                    self._tell(instance, tasks, begun, since)
                    is_over = not begun and not self.traces.in_progress(instance_id)
                    # Without tasks, only a turn can begin one.
                    look_s = 0 if is_over else LOOK_S if begun else None
                    with suppress(TimeoutError):
                        async with asyncio.timeout(look_s):
                            await changed.wait()
                            is_over = False
        finally:
            del self._watches[instance_id]

    def _tell(
        self, instance: Instance, tasks: Sequence[Task], begun: dict[str, Task], since: datetime
    ) -> None:
        for task in reversed(tasks):
            is_news = task.is_open or (task.updated_at is not None and task.updated_at >= since)
            if task.id not in begun and is_news and task.id not in self._ended:
                begun[task.id] = task
                self._publish(EventType.TASK_BEGUN, instance, task)
            if task.id in begun and not task.is_open:
                del begun[task.id]
                self._ended[task.id] = None
                self._publish(EventType.TASK_ENDED, instance, task)
        # One that OpenClaw does not list any more has ended, too.
        for task_id in begun.keys() - {each.id for each in tasks}:
            del begun[task_id]

    def _publish(self, kind: EventType, instance: Instance, task: Task) -> None:
        ended = {"outcome": task.status, "error_message": task.error}
        self.events.publish(
            kind,
            instance.organization_id,
            instance.id,
            task_id=task.id,
            task_kind=task.kind,
            title=task.title,
            session_key=task.session_key,
            own_session_key=task.own_session_key,
            **(ended if kind is EventType.TASK_ENDED else {}),
        )

    def _is_there(self, instance: Instance) -> bool:
        return instance.status is InstanceStatus.RUNNING and instance.is_in_memory

    def _gateway(self, instance: Instance) -> Gateway:
        return self.gateway_of(instance.sandbox_id, instance.gateway_url)

    def _idle_since(self, instance_id: InstanceId) -> datetime | None:
        turns = self.traces.of_instance(instance_id)
        ended = [each.at + timedelta(seconds=each.took_s) for each in turns if not each.is_open]
        return max(ended, default=None)
