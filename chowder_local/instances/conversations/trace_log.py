"""The latest turns of all agents, and what each agent did in them, kept in memory."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from chowder_local.core import logs
from chowder_local.core.errors import ChowderError
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.prompt_format import TurnKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from chowder_local.core.domain import InstanceId
    from chowder_local.relay.call_log import ModelCall

MAX_TURNS = 2000


class TurnStatus(StrEnum):
    """How a turn has ended, if it has."""

    IN_PROGRESS = "in_progress"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
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
    running_calls: Sequence[ModelCall] = ()
    """Its model calls while it is in progress."""
    ended_calls: tuple[str, ...] = ()
    """The ids of its model calls afterwards: the calls themselves would fill the memory."""
    kind: TurnKind = TurnKind.MESSAGE
    job: str | None = None
    waited_s: float = field(default_factory=logs.waited_s)
    traceparent: str | None = field(default_factory=logs.traceparent)

    @property
    def model_call_ids(self) -> tuple[str, ...]:
        """The ids of its model calls, in their order."""
        return self.ended_calls or tuple(each.id for each in self.running_calls)

    @property
    def took_s(self) -> float:
        """The time until its end, or until now."""
        return (time.monotonic() if self.ended_s is None else self.ended_s) - self.began_s

    @property
    def is_named(self) -> bool:
        """Whether it was sent to a named session."""
        return self.session_key != MAIN_KEY


@dataclass(eq=False, repr=False)
class TraceLog:
    """The latest turns, up to `MAX_TURNS`. Use it in one event loop only."""

    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self.export: Callable[[TracedTurn], None] | None = None
        """Is called with each turn that has ended."""
        self._turns: deque[TracedTurn] = deque(maxlen=MAX_TURNS)

    @contextmanager
    def turn(self, instance_id: InstanceId, session_key: str) -> Iterator[TracedTurn]:
        """Traces the turn of this block, which has failed unless the block sets another status."""
        request_id = logs.request_id() or uuid.uuid4().hex
        turn = TracedTurn(request_id, instance_id, session_key, self.clock(), time.monotonic())
        self.add(turn)
        status = TurnStatus.FAILED
        try:
            yield turn
        except (asyncio.CancelledError, GeneratorExit):
            status = TurnStatus.CANCELLED
            raise
        except ChowderError as failure:
            turn.status, turn.error = status, str(failure)
            raise
        finally:
            if turn.status is TurnStatus.IN_PROGRESS:
                turn.status = status
            self.end(turn)

    def end(self, turn: TracedTurn) -> None:
        """Ends a turn, whose status is set."""
        turn.ended_s = time.monotonic()
        turn.ended_calls, turn.running_calls = turn.model_call_ids, ()
        if self.export is not None:
            self.export(turn)

    def add(self, turn: TracedTurn) -> None:
        self._turns.append(turn)

    def remove(self, instance_id: InstanceId) -> None:
        """Drops the turns of an instance that is deleted."""
        kept = (each for each in self._turns if each.instance_id != instance_id)
        self._turns = deque(kept, maxlen=MAX_TURNS)

    def of_instance(self, instance_id: InstanceId) -> Iterator[TracedTurn]:
        """The instance's turns, latest first."""
        return (each for each in reversed(self._turns) if each.instance_id == instance_id)

    def with_call(self, instance_id: InstanceId, model_call_id: str) -> TracedTurn | None:
        """The turn that a model call belongs to; None if it is gone, or belongs to none."""
        turns = self.of_instance(instance_id)
        return next((each for each in turns if model_call_id in each.model_call_ids), None)

    def get(self, instance_id: InstanceId, turn_id: str) -> TracedTurn | None:
        """The turn with this id, or with this answer; None if it is gone or another instance's."""
        turns = self.of_instance(instance_id)
        return next((each for each in turns if turn_id in (each.response_id, each.id)), None)
