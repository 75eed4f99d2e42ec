"""The latest turns of all agents, and what each agent did in them, kept in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.openclaw.session_keys import MAIN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from chowder_local.core.domain import InstanceId
    from chowder_local.store.conversation_histories import ItemStatus

MAX_TURNS = 2000


@dataclass(frozen=True)
class TracedTurn:
    """A message to an agent, from its arrival to the end of its answer.

    `exchange_ids` are those of its model calls, in their order. `response_id` is the answer's, as
    the client gets it; None if there is none. `waited_s` is the time from the arrival of its
    request, and `traceparent` the trace that the request belongs to.
    """

    response_id: str | None
    instance_id: InstanceId
    session_key: str
    at: datetime
    took_s: float
    status: ItemStatus
    exchange_ids: tuple[str, ...]
    waited_s: float = 0.0
    traceparent: str | None = None

    @property
    def is_named(self) -> bool:
        """Whether it was sent to a named session."""
        return self.session_key != MAIN_KEY


class TraceLog:
    """The latest turns, up to `MAX_TURNS`. Use it in one event loop only."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.export: Callable[[TracedTurn], None] | None = None
        """Is called with each turn that has ended."""
        self._turns: deque[TracedTurn] = deque(maxlen=MAX_TURNS)

    def add(self, turn: TracedTurn) -> None:
        self._turns.append(turn)
        if self.export is not None:
            self.export(turn)

    def remove(self, instance_id: InstanceId) -> None:
        """Drops the turns of an instance that is deleted."""
        kept = (each for each in self._turns if each.instance_id != instance_id)
        self._turns = deque(kept, maxlen=MAX_TURNS)

    def of_instance(self, instance_id: InstanceId) -> Iterator[TracedTurn]:
        """The instance's turns, latest first."""
        return (each for each in reversed(self._turns) if each.instance_id == instance_id)

    def with_call(self, instance_id: InstanceId, exchange_id: str) -> TracedTurn | None:
        """The turn that a model call belongs to; None if it is gone, or belongs to none."""
        turns = self.of_instance(instance_id)
        return next((each for each in turns if exchange_id in each.exchange_ids), None)

    def get(self, instance_id: InstanceId, response_id: str) -> TracedTurn | None:
        """The turn with this answer; None if it is gone or belongs to another instance."""
        turns = self.of_instance(instance_id)
        return next((each for each in turns if each.response_id == response_id), None)
