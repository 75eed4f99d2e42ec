"""Turns that no client's message began, found by their model calls.

Nothing asks an agent what it does. A turn begins with a model call that belongs to no message, and
ends with the model's answer that asks for no tool. The gateway is asked only about a turn that is
silent for long.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cachetools import LRUCache, TTLCache

from chowder_local.core import untrusted_json
from chowder_local.core.domain import InstanceStatus
from chowder_local.core.tasks import logging_errors
from chowder_local.instances.conversations.trace_log import TEXT_MAX, TracedTurn, TurnStatus
from chowder_local.relay.prompt_format import (
    TurnKind,
    find_origin,
    is_side_task,
    is_subagent,
    reported_subagents,
    spoken_text,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from chowder_local.core.domain import Instance, InstanceId, SandboxId
    from chowder_local.instances.conversations.trace_log import TraceLog
    from chowder_local.instances.lifecycle.residency import Residency
    from chowder_local.openclaw.gateway import GatewayOf
    from chowder_local.openclaw.sandbox_exec import Control
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.wire.wire_format import ModelOutput
    from chowder_local.store.agent_entries import AgentEntries
    from chowder_local.store.instances import InstanceQueries

log = logging.getLogger(__name__)

QUIET_S = 30.0
"""After this time without a model call, the gateway is asked whether the turn goes on."""
LONGEST_QUIET_S = 600.0
AGAIN_S = 5.0
"""So soon OpenClaw calls the model again after a failure, or an answer without text."""
LARGE_ANSWER_BYTES = 64 * 1024
"""A larger answer is read in a thread."""
SESSIONS_MAX = 1000
HOOKS_KEPT = 4096
HOOK_KEPT_S = 120.0
"""For how long a heartbeat is taken for that which a hook has asked for."""
MAX_TEXT = 64 * 1024
"""The most characters of a message that are kept; the transcript has all."""
YIELDING_TOOL = "sessions_yield"
"""The tool that ends a turn without an answer, until a sub-agent reports."""
RESULTS_KEPT = 100
"""The results of sub-agents that their agents have not reported so far."""
REPORTED_KEPT = 10_000
_GOOD_OUTCOMES = {"answered", "offline"}


class _TurnId(NamedTuple):
    """The model calls of a turn have these in common."""

    sandbox_id: SandboxId
    session_key: str | None
    trace_id: str | None


@dataclass(eq=False)
class _OpenTurn:
    id: _TurnId
    turn: TracedTurn
    calls: list[ModelCall] = field(default_factory=list)
    timer: asyncio.Task[None] | None = None
    quiet_s: float = QUIET_S


@dataclass(eq=False, repr=False, kw_only=True)
class UnaskedTurns:
    """The unasked turns in progress, each of which is in the trace log; and what they say."""

    traces: TraceLog
    instances: InstanceQueries
    residency: Residency
    gateway_of: GatewayOf
    control: Control
    messages: AgentEntries
    group: asyncio.TaskGroup

    def __post_init__(self) -> None:
        self._open: dict[_TurnId, _OpenTurn] = {}
        self._hooks: TTLCache[SandboxId, bool] = TTLCache(HOOKS_KEPT, HOOK_KEPT_S)
        self._results: LRUCache[tuple[SandboxId, str], str] = LRUCache(RESULTS_KEPT)
        self._reported: LRUCache[tuple[SandboxId, str], None] = LRUCache(REPORTED_KEPT)

    def expect_hook(self, sandbox_id: SandboxId) -> None:
        """A hook has woken the agent: the next heartbeat is its turn."""
        self._hooks[sandbox_id] = True

    def is_open(self, sandbox_id: SandboxId, logged: ModelCall) -> bool:
        return _TurnId(sandbox_id, logged.session_key, logged.turn_id) in self._open

    def note(self, sandbox_id: SandboxId, logged: ModelCall) -> None:
        """Adds a call to its turn, or begins one with it."""
        turn_id = _TurnId(sandbox_id, logged.session_key, logged.turn_id)
        running = self._open.get(turn_id)
        if running is None:
            running = self._open[turn_id] = self._begin(turn_id, logged)
        else:
            running.calls.append(logged)
            self.traces.note_call(running.turn, logged)
        self._set_timer(running, None)
        running.quiet_s = QUIET_S
        logged.on_finish = lambda: self._start(self._conclude(running, logged))

    def forget(self, instance_id: InstanceId) -> None:
        """Drops the turns of an instance that is deleted."""
        for each in list(self._open.values()):
            if each.turn.instance_id == instance_id:
                self._set_timer(each, None)
                del self._open[each.id]

    def _begin(self, turn_id: _TurnId, logged: ModelCall) -> _OpenTurn:
        if logged.instance_id is None:
            raise ValueError("A warm sandbox begins no turn.")
        origin = find_origin(logged.body, logged.session_key)
        session_key = logged.session_key
        if session_key is None and origin.job_id is not None:
            session_key = f"agent:main:cron:{origin.job_id}"
        kind = origin.kind
        if kind is TurnKind.HEARTBEAT and self._hooks.pop(turn_id.sandbox_id, False):
            kind = TurnKind.HOOK
        turn = TracedTurn(
            uuid.uuid4().hex,
            logged.instance_id,
            session_key,
            self.traces.clock(),
            time.monotonic(),
            kind=kind,
            job=origin.job,
            waited_s=0.0,
            traceparent=None,
            organization_id=logged.organization_id,
            channel=origin.channel,
        )
        running = _OpenTurn(turn_id, turn, [logged])
        turn.running_calls = running.calls
        self.traces.add(turn)
        self._start(self._name_agent(turn))
        if origin.kind is TurnKind.JOB and origin.job is None:
            self._start(self._name_job(running, logged.body))
        return running

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.group.create_task(work, name="unasked turn")

    async def _name_agent(self, turn: TracedTurn) -> None:
        with logging_errors(f"instance {turn.instance_id}: naming the agent of its turn"):
            instance = await self.instances.get(turn.instance_id)
            turn.agent_name = None if instance is None else instance.name

    async def _name_job(self, running: _OpenTurn, request: bytes) -> None:
        """Finds the job of the main session whose text is in the request."""
        with logging_errors(f"instance {running.turn.instance_id}: naming its job"):
            instance = await self._resident(running)
            if instance is None:
                return
            gateway = self.gateway_of(instance.sandbox_id, instance.gateway_url)
            answer = await gateway.call("cron.list", {"includeDisabled": True})
            for job in untrusted_json.objects_of(answer.get("jobs")):
                text = untrusted_json.object_at(job, "payload").get("text")
                if isinstance(text, str) and json.dumps(text)[1:-1].encode() in request:
                    running.turn.job = untrusted_json.text_of(job.get("name")) or None
                    return

    async def _conclude(self, running: _OpenTurn, call: ModelCall) -> None:
        """Ends a turn with the answer of its last model call, or waits for the next call."""
        with logging_errors(f"instance {running.turn.instance_id}: ending an unasked turn"):
            is_large = call.answer_bytes > LARGE_ANSWER_BYTES
            output = await asyncio.to_thread(_output, call) if is_large else call.output
            if running.id not in self._open or running.calls[-1] is not call:
                return
            if call.outcome not in _GOOD_OUTCOMES or output.error is not None:
                is_left = call.outcome == "client_disconnected"
                status = TurnStatus.CANCELLED if is_left else TurnStatus.FAILED
                error = call.error or output.error
                self._set_timer(running, self._end_after(running, AGAIN_S, status, error))
            elif output.calls and YIELDING_TOOL not in {each.name for each in output.calls}:
                self.traces.note_answer(running.turn, call, output)
                self._set_timer(running, self._ask_after(running))
            elif not output.text and not output.calls:
                ending = self._end_after(running, AGAIN_S, TurnStatus.ANSWERED)
                self._set_timer(running, ending)
            else:
                try:
                    # First, so that whoever waits for the turn's end finds what it said.
                    await self._send(running, output.text)
                finally:
                    if running.id in self._open and running.calls[-1] is call:
                        self._end(running, TurnStatus.ANSWERED)

    async def _send(self, running: _OpenTurn, answer: str) -> None:
        """Stores what the agent says by an answer, if it says something to somebody."""
        turn = running.turn
        text = spoken_text(answer, turn.kind)
        if turn.session_key is not None and is_subagent(turn.session_key):
            # Its agent reads it, and reports it.
            self._results[running.id.sandbox_id, turn.session_key] = text[: MAX_TEXT + 1]
        elif turn.kind is TurnKind.CHANNEL:
            # OpenClaw delivers it.
            turn.answer = text[:TEXT_MAX]
        elif turn.kind is TurnKind.OTHER and is_side_task(turn.session_key):
            # Nobody hears a summary of a conversation, for example.
            return
        else:
            await self._report(running, text)

    async def _report(self, running: _OpenTurn, text: str) -> None:
        """Stores a text; without one the results of sub-agents that the turn was to report."""
        results: list[str] = []
        if running.turn.kind is TurnKind.SUBAGENT:
            for key in reported_subagents(running.calls[0].body):
                self._reported[running.id.sandbox_id, key] = None
                results.append(self._results.pop((running.id.sandbox_id, key), ""))
        if text:
            await self._store(running.turn, text, is_reported=True)
            return
        for result in filter(None, results):
            await self._store(running.turn, result, is_reported=False)

    async def _store(self, turn: TracedTurn, text: str, *, is_reported: bool) -> None:
        about = {
            "kind": str(turn.kind),
            "job": turn.job,
            "session_key": turn.session_key,
            "trace_id": turn.id,
        }
        content = {
            **about,
            "model_calls": len(turn.model_call_ids),
            "text": text[:MAX_TEXT],
            "is_cut": len(text) > MAX_TEXT,
            "is_reported": is_reported,
        }
        number = await self.messages.add(turn.instance_id, self.traces.clock(), content)
        self.traces.publish_sent(turn, number, text)

    async def _ask_after(self, running: _OpenTurn) -> None:
        """Asks the gateway at growing intervals, and ends a turn whose run has ended."""
        while True:
            await asyncio.sleep(running.quiet_s)
            with logging_errors(f"instance {running.turn.instance_id}: looking at a turn"):
                if not await self._has_run(running):
                    self._end(running, TurnStatus.CANCELLED)
                    return
            running.quiet_s = min(2 * running.quiet_s, LONGEST_QUIET_S)

    async def _has_run(self, running: _OpenTurn) -> bool:
        instance = await self._resident(running)
        if instance is None:
            return False
        with self.residency.counting(instance.id):
            return bool(await self.running_keys(instance, running.turn.session_key or ""))

    async def running_keys(self, instance: Instance, session_key: str) -> list[str]:
        """The sessions in which a turn runs: this one, and those of a job's runs.

        Their keys have that of the job's session in front.
        """
        answer = await self.control.call(
            instance.sandbox_id, "sessions.list", {"limit": SESSIONS_MAX}
        )
        listed = untrusted_json.objects_of(answer.get("sessions"))
        active = (each for each in listed if each.get("hasActiveRun") is True)
        keys = (untrusted_json.text_of(each.get("key")) for each in active)
        own = f"{session_key}:" if session_key else ""
        return [each for each in keys if f"{each}:".startswith(own)]

    def has_reported(self, sandbox_id: SandboxId, subagent_key: str) -> bool:
        """Whether an agent had a turn to report what a sub-agent of its has found, even in vain."""
        return (sandbox_id, subagent_key) in self._reported

    def end_cancelled(self, turn: TracedTurn) -> None:
        """Ends an unasked turn whose run somebody has ended."""
        for running in [each for each in self._open.values() if each.turn is turn]:
            self._set_timer(running, None)
            self._end(running, TurnStatus.CANCELLED)

    async def _resident(self, running: _OpenTurn) -> Instance | None:
        """The turn's instance; None unless it runs in memory, in the same sandbox."""
        instance = await self.instances.get(running.turn.instance_id)
        if instance is None or instance.status is not InstanceStatus.RUNNING:
            return None
        is_there = instance.is_in_memory and instance.sandbox_id == running.id.sandbox_id
        return instance if is_there else None

    async def _end_after(
        self, running: _OpenTurn, wait_s: float, status: TurnStatus, error: str | None = None
    ) -> None:
        await asyncio.sleep(wait_s)
        with logging_errors(f"instance {running.turn.instance_id}: ending an unasked turn"):
            if not is_subagent(running.turn.session_key):
                await self._report(running, "")
        self._end(running, status, error)

    def _end(self, running: _OpenTurn, status: TurnStatus, error: str | None = None) -> None:
        self._open.pop(running.id, None)
        running.turn.status, running.turn.error = status, error
        self.traces.end(running.turn)

    def _set_timer(self, running: _OpenTurn, work: Coroutine[Any, Any, None] | None) -> None:
        """What is done unless another model call comes first."""
        if running.timer is not None:
            running.timer.cancel()
        running.timer = None if work is None else self.group.create_task(work)


def _output(call: ModelCall) -> ModelOutput:
    return call.output
