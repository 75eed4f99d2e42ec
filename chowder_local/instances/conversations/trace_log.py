"""The latest turns of all agents, and what each agent did and does in them, kept in memory."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chowder_local.core import logs
from chowder_local.core.errors import ChowderError
from chowder_local.core.events import ChangeSignal, Events, EventType
from chowder_local.core.long_values import is_long
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.prompt_format import ANSWER_TOOL, TurnKind, client_name
from chowder_local.relay.turn_steps import results_before

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId, OrganizationId
    from chowder_local.relay.call_log import ModelCall
    from chowder_local.relay.wire.conversation import ToolCall
    from chowder_local.relay.wire.wire_format import ModelOutput

MAX_TURNS = 2000
TEXT_MAX = 1000
"""The most characters of a text, of arguments and of a result in an event."""
REQUEST_MAX_CHARS = 32 * 1024
"""A longer message is not kept."""
REQUESTS_KEPT = 500
"""Of so many of the latest turns the messages are kept."""
LONGEST_READ_BYTES = 512 * 1024
"""Events have no results of tools from a longer request: reading it would delay others."""


class TurnStatus(StrEnum):
    """How a turn has ended, if it has."""

    IN_PROGRESS = "in_progress"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(eq=False)
class TracedTurn:
    """A message to an agent, from its arrival to the end of its answer; or an unasked turn.

    `id` is that of its request. `response_id` is the answer's, as the client gets it; None if there
    is none. `error` is why it failed, if the answer had not begun. `waited_s` is the time from the
    arrival of its request, and `traceparent` the trace that the request belongs to. `job` is the
    name of the job that began it, and `session_key` None if OpenClaw names no session.
    """

    id: str
    instance_id: InstanceId
    session_key: str | None
    at: datetime
    began_s: float
    ended_s: float | None = None
    status: TurnStatus = TurnStatus.IN_PROGRESS
    response_id: str | None = None
    error: str | None = None
    error_code: str | None = None
    http_status: int | None = None
    """Of the answer to its request; None if there was none."""
    running_calls: Sequence[ModelCall] = ()
    """Its model calls while it is in progress."""
    ended_calls: tuple[str, ...] = ()
    """The ids of its model calls afterwards: the calls themselves would fill the memory."""
    kind: TurnKind = TurnKind.MESSAGE
    job: str | None = None
    waited_s: float = field(default_factory=logs.waited_s)
    traceparent: str | None = field(default_factory=logs.traceparent)
    organization_id: OrganizationId | None = None
    agent_name: str | None = None
    channel: str | None = None
    """The messenger of a turn that somebody there began."""
    text: str = ""
    """What a client has said; what began another turn is in its first model call."""
    answer: str = ""
    """What a client gets, or somebody in a messenger."""
    functions: Collection[str] = ()
    """The client's own functions, which the agent does not run."""
    request: Mapping[str, Any] | None = None
    """The message as its client sent it, if that is not long."""
    on_cancel: Callable[[], object] | None = None
    """Ends a client's message at once."""
    is_cancelled: bool = False
    """Whether somebody other than its client has ended it."""
    open_tools: list[tuple[ToolCall, float]] = field(default_factory=list)
    """The tools that run, as far as somebody watches, and since when."""

    @property
    def model_call_ids(self) -> tuple[str, ...]:
        """The ids of its model calls, in their order."""
        return self.ended_calls or tuple(each.id for each in self.running_calls)

    @property
    def took_s(self) -> float:
        """The time until its end, or until now."""
        return (time.monotonic() if self.ended_s is None else self.ended_s) - self.began_s

    @property
    def is_open(self) -> bool:
        return self.ended_s is None

    def cancel(self) -> None:
        """Ends it, if it is a client's message."""
        self.is_cancelled = True
        if self.on_cancel is not None:
            self.on_cancel()

    @property
    def is_named(self) -> bool:
        """Whether it was sent to a named session."""
        return self.session_key != MAIN_KEY


@dataclass(eq=False, repr=False)
class TraceLog:
    """The latest turns, up to `MAX_TURNS`, which it tells as events. Use it in one event loop only.

    Tools are told only while somebody watches: that takes reading the model calls.
    """

    clock: Callable[[], datetime]
    events: Events

    def __post_init__(self) -> None:
        self.export: Callable[[TracedTurn], None] | None = None
        """Is called with each turn that has ended."""
        self.on_work: Callable[[TracedTurn], None] = lambda _: None
        """Is called with a turn, while somebody watches, after what may begin or end a task."""
        self._turns: deque[TracedTurn] = deque(maxlen=MAX_TURNS)
        self._open: dict[TracedTurn, None] = {}
        self.changes = ChangeSignal()
        """A turn begins or ends, or a model call or a tool does."""

    @contextmanager
    def turn(
        self,
        instance: Instance,
        session_key: str,
        text: str = "",
        functions: Collection[str] = (),
        request: Mapping[str, Any] | None = None,
    ) -> Iterator[TracedTurn]:
        """Traces the turn of this block, which has failed unless the block sets another status."""
        turn = TracedTurn(
            logs.request_id() or uuid.uuid4().hex,
            instance.id,
            session_key,
            self.clock(),
            time.monotonic(),
            organization_id=instance.organization_id,
            agent_name=instance.name,
            text=text,
            functions=functions,
            request=None if is_long(request, REQUEST_MAX_CHARS) else request,
        )
        self.add(turn)
        status = TurnStatus.FAILED
        try:
            yield turn
            turn.http_status = HTTPStatus.OK
        except (asyncio.CancelledError, GeneratorExit):
            status = TurnStatus.CANCELLED
            raise
        except ChowderError as failure:
            turn.status, turn.error, turn.error_code = status, str(failure), failure.code
            turn.http_status = failure.http_status or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            if turn.status is TurnStatus.IN_PROGRESS:
                turn.status = status
            self.end(turn)

    def add(self, turn: TracedTurn) -> None:
        """Adds a turn that begins, or one that has ended."""
        self._turns.append(turn)
        if len(self._turns) > REQUESTS_KEPT:
            self._turns[-REQUESTS_KEPT - 1].request = None
        if not turn.is_open:
            return
        self._open[turn] = None
        text = turn.text
        if turn.kind not in {TurnKind.MESSAGE, TurnKind.HEARTBEAT} and self.is_watched(turn):
            text = first_text(turn)
        if turn.kind is not TurnKind.HEARTBEAT and turn.session_key is not None:
            self._publish(EventType.MESSAGE_RECEIVED, turn, text=text[:TEXT_MAX] or None)
        self._publish(EventType.TURN_BEGUN, turn)
        self.changes.notify()
        self._tell_work(turn)

    def end(self, turn: TracedTurn) -> None:
        """Ends a turn, whose status is set."""
        if turn.is_cancelled and turn.status is TurnStatus.FAILED:
            turn.status = TurnStatus.CANCELLED
        turn.ended_s = time.monotonic()
        self._open.pop(turn, None)
        turn.on_cancel = None
        self._end_tools(turn, None)
        if turn.answer and turn.status is TurnStatus.ANSWERED:
            self._publish(
                EventType.MESSAGE_SENT,
                turn,
                text=turn.answer[:TEXT_MAX],
                response_id=turn.response_id,
            )
        self._publish(
            EventType.TURN_ENDED,
            turn,
            outcome=turn.status,
            error_message=turn.error,
            took_s=round(turn.took_s, 3),
            model_calls=len(turn.model_call_ids),
        )
        turn.ended_calls, turn.running_calls = turn.model_call_ids, ()
        self.changes.notify()
        self._tell_work(turn)
        if self.export is not None:
            self.export(turn)

    def note_call(self, turn: TracedTurn, call: ModelCall) -> None:
        """A model call of a turn begins, so that the tools before it have ended."""
        self._end_tools(turn, call)
        self.changes.notify()

    def follow_call(self, turn: TracedTurn, call: ModelCall) -> None:
        """As `note_call`, and notes the call's answer when it has ended."""
        self.note_call(turn, call)
        call.on_finish = partial(self.note_answer, turn, call)

    def note_answer(
        self, turn: TracedTurn, call: ModelCall, output: ModelOutput | None = None
    ) -> None:
        """A model call of a turn has ended, so that the tools that it asks for begin."""
        if self.is_watched(turn) and turn.is_open:
            for tool in (output or call.output).calls:
                name = client_name(tool.name)
                if tool.name == ANSWER_TOOL or name in turn.functions:
                    continue
                turn.open_tools.append((tool, time.monotonic()))
                self._publish(
                    EventType.TOOL_BEGUN,
                    turn,
                    tool=name,
                    call_id=tool.id,
                    model_call_id=call.id,
                    arguments=tool.arguments_json[:TEXT_MAX],
                )
        self.changes.notify()

    def _end_tools(self, turn: TracedTurn, call: ModelCall | None) -> None:
        """Tells that the tools have ended; `call` is the model call that has their results."""
        if not turn.open_tools:
            return
        results: Sequence[str | None] = [None] * len(turn.open_tools)
        if call is not None and len(call.body) <= LONGEST_READ_BYTES:
            results = results_before(call, len(turn.open_tools))
        for (tool, began_s), result in zip(turn.open_tools, results, strict=True):
            self._publish(
                EventType.TOOL_ENDED,
                turn,
                tool=client_name(tool.name),
                call_id=tool.id,
                took_s=round(time.monotonic() - began_s, 3),
                result=None if result is None else result[:TEXT_MAX],
            )
        turn.open_tools.clear()
        self.on_work(turn)

    def _tell_work(self, turn: TracedTurn) -> None:
        if turn.kind is not TurnKind.MESSAGE and self.is_watched(turn):
            self.on_work(turn)

    def is_watched(self, turn: TracedTurn) -> bool:
        """Whether somebody wants to see its tools."""
        return self.events.is_watched(turn.organization_id)

    def publish_sent(self, turn: TracedTurn, number: int | None, text: str) -> None:
        """Tells what an agent has said in an unasked turn; `number` is its place in the list."""
        self._publish(EventType.MESSAGE_SENT, turn, number=number, text=text[:TEXT_MAX])

    def _publish(self, kind: EventType, turn: TracedTurn, **members: Any) -> None:
        about = {"kind": turn.kind, "session_key": turn.session_key, "trace_id": turn.id}
        if turn.kind is not TurnKind.MESSAGE:
            about |= {"job": turn.job, "channel": turn.channel}
        self.events.publish(kind, turn.organization_id, turn.instance_id, **about, **members)

    def in_progress(self, instance_id: InstanceId) -> list[TracedTurn]:
        """The instance's turns that have not ended, the oldest first."""
        return [each for each in self._open if each.instance_id == instance_id]

    def remove(self, instance_id: InstanceId) -> None:
        """Drops the turns of an instance that is deleted."""
        kept = (each for each in self._turns if each.instance_id != instance_id)
        self._turns = deque(kept, maxlen=MAX_TURNS)
        for each in self.in_progress(instance_id):
            del self._open[each]

    def of_instance(self, instance_id: InstanceId) -> Iterator[TracedTurn]:
        """The instance's turns, latest first."""
        return (each for each in reversed(self._turns) if each.instance_id == instance_id)

    def find(self, organization_id: OrganizationId, reference: str) -> list[TracedTurn]:
        """The latest turn of the organization with this id, or whose answer has it; else those
        whose answer's id, or else their own, begins so.
        """
        own = [each for each in self._turns if each.organization_id == organization_id]
        exact = [each for each in own if reference in (each.response_id, each.id)]
        return exact[-1:] or [
            each
            for each in own
            if reference and (each.response_id or each.id).startswith(reference)
        ]

    def with_call(self, instance_id: InstanceId, model_call_id: str) -> TracedTurn | None:
        """The turn that a model call belongs to; None if it is gone, or belongs to none."""
        turns = self.of_instance(instance_id)
        return next((each for each in turns if model_call_id in each.model_call_ids), None)

    def get(self, instance_id: InstanceId, turn_id: str) -> TracedTurn | None:
        """The turn with this id, or with this answer; None if it is gone or another instance's."""
        turns = self.of_instance(instance_id)
        return next((each for each in turns if turn_id in (each.response_id, each.id)), None)


def first_text(turn: TracedTurn) -> str:
    """What began a turn. Reads its first model call."""
    if turn.text or not turn.running_calls:
        return turn.text
    first = turn.running_calls[0]
    return "" if len(first.body) > LONGEST_READ_BYTES else first.last_message or ""
