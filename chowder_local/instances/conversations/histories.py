"""Leaving out of messages the items that the agent has, and recording its new ones."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused, MessageTooLarge
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.long_values import off_loop
from chowder_local.instances.conversations.trace_log import TEXT_MAX, TurnStatus
from chowder_local.openclaw.responses import history, inputs
from chowder_local.store.conversation_histories import (
    ConversationHistory,
    HistoryItem,
    ItemStatus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.instances.conversations.trace_log import TracedTurn, TraceLog
    from chowder_local.openclaw.responses.inputs import Item
    from chowder_local.openclaw.responses.requests import GatewayRequest
    from chowder_local.openclaw.rewinding import Rewinding
    from chowder_local.relay.session_watch import SessionWatch, WatchedMessage
    from chowder_local.store.conversation_histories import (
        ConversationHistoryQueries,
        UnsavedTurn,
    )

ANSWERED_STATUSES = {"completed", "incomplete"}
LONGEST_REPEATED_CHARS = 128 * 1024
"""The latest turns of at most so many characters are said again to an agent that lost them."""
_NOT_SENT = (MessageRefused, MessageTooLarge, InstanceStateWrong)
"""After these errors the agent has not received the message."""


@dataclass(eq=False, repr=False)
class Delivery:
    """A message on its way to an agent; created by `Histories.delivery` only.

    `turn` goes to the agent; it may have fewer items than the client has sent.
    """

    turn: GatewayRequest
    items: Sequence[Item]
    digests: Sequence[bytes]
    """Those of the items."""
    watched: WatchedMessage

    def __post_init__(self) -> None:
        self.answer: list[Item] | None = None
        self.response_id: str | None = None
        self.is_sent = False
        """Whether the agent may have received it."""

    @property
    def history_is_gone(self) -> bool:
        """Whether the agent turns out to have forgotten the items that were left out.

        This shows before its first output; `Histories.prepare_full_resend` prepares another try.
        """
        return self.watched.is_lost

    @property
    def history_confirmed(self) -> bool:
        """Whether `history_is_gone` can no longer become true."""
        return self.watched.is_certain

    def status(self, traced: TracedTurn, without_answer: ItemStatus) -> ItemStatus:
        """The status of the message once it is over."""
        if self.answer is not None:
            return ItemStatus.ANSWERED
        return ItemStatus.CANCELLED if traced.is_cancelled else without_answer

    def record_answer(self, response: Mapping[str, Any]) -> None:
        """Keeps the id and the items of the answer that the client gets."""
        self.response_id = response.get("id") or self.response_id
        if response.get("status") in ANSWERED_STATUSES:
            self.answer = history.items_of_output(response.get("output", []))


@dataclass(eq=False, repr=False, kw_only=True)
class Histories:
    """Leaves out of messages the items that their conversations have, and records new ones.

    `keeps_turns` says whether an agent may come back without its latest turns. It hears these again
    before the next message.
    """

    keeps_turns: Callable[[], bool]
    queries: ConversationHistoryQueries
    watch: SessionWatch
    rewinding: Rewinding
    traces: TraceLog
    clock: Callable[[], datetime]

    @asynccontextmanager
    async def delivery(
        self, instance: Instance, session_key: str, turn: GatewayRequest, traced: TracedTurn
    ) -> AsyncIterator[Delivery]:
        """A message that is sent and answered in this block.

        Its outcome is recorded from how the block ends, and from `Delivery.record_answer`; `traced`
        gets its model calls and its answer.
        """
        record = await self.queries.get(instance.id, session_key)
        items = turn.client_input.items
        if record.openclaw_session_id is not None and len(items) > 1:
            answered = [each.digest for each in record.answered]
            unsent = partial(history.unsent_items, known=answered)
            items = await off_loop(unsent, turn.client_input)
        if record.unanswered:
            await self._rewind(instance, session_key, items)
        is_shorter = len(items) < len(turn.client_input.items)
        if lost := await self.queries.lost(instance.id, session_key):
            items = (*_repeated(lost, has_history=bool(turn.client_input.history)), *items)
        expected = record.openclaw_session_id if is_shorter else None
        on_call = partial(self.traces.follow_call, traced)
        digests = await off_loop(history.digests_of_items, items)
        with self.watch.watching(
            instance.sandbox_id, session_key, expected, turn.client_input.text, on_call
        ) as watched:
            sent = turn.with_items(items) if is_shorter or lost else turn
            delivery = Delivery(sent, items, digests, watched)
            traced.running_calls = watched.calls
            status = ItemStatus.FAILED
            try:
                yield delivery
            except (asyncio.CancelledError, GeneratorExit):
                status = ItemStatus.CANCELLED
                raise
            except AnswerUnfit:
                # The agent remembers an answer that the client does not get.
                delivery.answer = []
                raise
            except _NOT_SENT:
                delivery.is_sent = False
                raise
            finally:
                status = delivery.status(traced, status)
                self._record(instance.id, session_key, delivery, status)
                traced.status, traced.response_id = TurnStatus(status), delivery.response_id
                traced.answer = _answer_text(delivery.answer or ())

    async def prepare_full_resend(
        self, instance: Instance, session_key: str, turn: GatewayRequest, delivery: Delivery
    ) -> None:
        """Resets a lost delivery so that it can be sent again, with the whole message."""
        self.queries.put(instance.id, session_key, ConversationHistory())
        await self.rewinding.take_back(instance.sandbox_id, session_key, turn.client_input.text)
        delivery.turn = turn
        delivery.items = turn.client_input.items
        delivery.digests = await off_loop(history.digests_of_items, delivery.items)
        delivery.watched.expected, delivery.watched.is_lost = None, False

    async def _rewind(self, instance: Instance, session_key: str, items: Sequence[Item]) -> None:
        """Removes the latest unanswered messages from the session if they are being sent again."""
        record = await self.queries.get(instance.id, session_key)
        resent = await off_loop(_by_digest, items)
        unanswered = list(record.unanswered)
        # OpenClaw itself recognizes a single message that was cancelled and is sent again.
        is_recognized = unanswered == [HistoryItem(each, ItemStatus.CANCELLED) for each in resent]
        while unanswered and unanswered[-1].digest in resent:
            text = history.item_text(resent[unanswered.pop().digest])
            if text and not is_recognized:
                await self.rewinding.take_back(instance.sandbox_id, session_key, text)
        if len(unanswered) < len(record.unanswered):
            items_left = (*record.answered, *unanswered)
            self.queries.put(instance.id, session_key, replace(record, items=items_left))

    def _record(
        self, instance_id: InstanceId, session_key: str, delivery: Delivery, status: ItemStatus
    ) -> None:
        """Adds a message, and its answer if it got one."""
        if not delivery.is_sent:
            return
        record = self.queries.latest(instance_id, session_key)
        items = [HistoryItem(each, status) for each in delivery.digests]
        earlier = record.items
        if status is ItemStatus.ANSWERED:
            answer = history.digests_of_items(delivery.answer or ())
            items += [HistoryItem(each) for each in answer]
            earlier = (*record.answered, *map(_remembered, record.unanswered))
            earlier = tuple(each for each in earlier if each.status is ItemStatus.ANSWERED)
        session_id = delivery.watched.session_id or record.openclaw_session_id
        self.queries.put(
            instance_id, session_key, ConversationHistory(session_id, (*earlier, *items))
        )
        if status is ItemStatus.ANSWERED and self.keeps_turns():
            turn = [*delivery.items, *(delivery.answer or ())]
            kept = [inputs.as_text(each) for each in turn if not history.is_rule(each)]
            self.queries.add_unsaved(instance_id, session_key, self.clock(), kept)


def _repeated(lost: Sequence[UnsavedTurn], *, has_history: bool) -> Iterator[Item]:
    """A line for the transcript, and the turns that an agent lost with its machine."""
    repeated: list[Item] = []
    count = chars = 0
    for turn in reversed(lost):
        chars += sum(len(str(part)) for each in turn.items or () for part in each.values())
        if turn.items is None or chars > LONGEST_REPEATED_CHARS:
            break
        repeated[:0] = turn.items
        count += 1
    first = f"{lost[0].at:%Y-%m-%d %H:%M:%S} UTC"
    text = (
        "[chowder-local] The machine of this agent was lost. The agent was restored from a copy "
        f"that is older than {first}: its changes to files since then are undone."
    )
    if not has_history:
        text += (
            f" Later messages of this conversation: {count} follow with their answers, and "
            f"{len(lost) - count} are missing, because they are too long."
        )
    yield {"type": "message", "role": "user", "content": text}
    # A client that sends the whole conversation repeats these items itself.
    yield from () if has_history else repeated


def _remembered(item: HistoryItem) -> HistoryItem:
    """An unanswered item once a later one is answered.

    A message whose model call failed stays in the conversation. A cancelled one is only quoted in
    the next message, and then forgotten.
    """
    return HistoryItem(item.digest) if item.status is ItemStatus.FAILED else item


def _answer_text(items: Iterable[Item]) -> str:
    """The beginning of the text of an answer's items."""
    texts = (history.message_text(each) for each in items if each.get("role") == "assistant")
    return " ".join(texts)[:TEXT_MAX]


def _by_digest(items: Iterable[Item]) -> dict[bytes, Item]:
    return {each: item for item in items if (each := history.digest(item)) is not None}
