"""What of a message an agent gets, and what is known of a conversation afterwards."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused, MessageTooLarge
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.openclaw.responses import history, item_digests
from chowder_local.store.conversation_histories import (
    ConversationHistory,
    ItemStatus,
    KnownItem,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from chowder_local.core.domain import Instance, InstanceId
    from chowder_local.openclaw.responses.inputs import Item
    from chowder_local.openclaw.responses.requests import Turn
    from chowder_local.openclaw.rewinding import Rewinding
    from chowder_local.relay.session_watch import SessionWatch, WatchedMessage
    from chowder_local.store.conversation_histories import ConversationHistoryQueries

ANSWERED_STATUSES = {"completed", "incomplete"}
_NOT_SENT = (MessageRefused, MessageTooLarge, InstanceStateWrong)
"""After these the agent has not heard of the message."""


class Delivery:
    """A message on its way to an agent, made by `Histories.delivery` only.

    `turn` is what goes to the agent; it may be less than the client has sent.
    """

    def __init__(self, turn: Turn, digests: list[bytes], watched: WatchedMessage) -> None:
        self.turn = turn
        self.digests = digests
        self.watched = watched
        self.answer: list[bytes] | None = None
        self.is_sent = False
        """Whether the agent may have heard of it."""

    @property
    def is_lost(self) -> bool:
        """Whether the agent turns out not to remember what was left out.

        That is so before it has said anything; `Histories.ask_again` is the cure.
        """
        return self.watched.is_lost

    @property
    def is_certain(self) -> bool:
        """Whether that cannot be so any more."""
        return self.watched.is_certain

    def ended(self, response: Mapping[str, Any]) -> None:
        """Takes note of the answer as the client gets it."""
        if response.get("status") in ANSWERED_STATUSES:
            self.answer = item_digests.digests_of_output(response.get("output", []))


class Histories:
    """Leaves out of messages what their conversations have already, and keeps what is new."""

    def __init__(
        self,
        *,
        queries: ConversationHistoryQueries,
        watch: SessionWatch,
        rewinding: Rewinding,
    ) -> None:
        self._queries = queries
        self._watch = watch
        self._rewinding = rewinding

    @asynccontextmanager
    async def delivery(
        self, instance: Instance, session_key: str, turn: Turn
    ) -> AsyncIterator[Delivery]:
        """A message that is sent and answered in this block.

        What became of it is known from how the block ends, and from `Delivery.ended`.
        """
        known = await self._queries.get(instance.id, session_key)
        items = turn.given.items
        if known.openclaw_session_id is not None and turn.given.history:
            answered = [each.digest for each in known.answered]
            items = (*history.unknown_items(turn.given.history, answered), *turn.given.new)
        if known.unanswered:
            await self._take_back(instance, session_key, items)
        is_shorter = len(items) < len(turn.given.items)
        expected = known.openclaw_session_id if is_shorter else None
        with self._watch.watching(instance.sandbox_id, session_key, expected) as watched:
            sent = turn.of_items(items) if is_shorter else turn
            delivery = Delivery(sent, item_digests.digests_of_items(items), watched)
            status = ItemStatus.FAILED
            try:
                yield delivery
            except (asyncio.CancelledError, GeneratorExit):
                status = ItemStatus.CANCELLED
                raise
            except AnswerUnfit:
                # There is an answer, which the agent remembers and nobody else has.
                delivery.answer = []
                raise
            except _NOT_SENT:
                delivery.is_sent = False
                raise
            finally:
                if delivery.answer is not None:
                    status = ItemStatus.ANSWERED
                self._record(instance.id, session_key, delivery, status)

    async def ask_again(
        self, instance: Instance, session_key: str, turn: Turn, delivery: Delivery
    ) -> None:
        """Has a delivery go on with the whole message, of an agent that has forgotten the rest."""
        self._queries.put(instance.id, session_key, ConversationHistory())
        words = _words(delivery.turn.given.new)
        await self._rewinding.take_back(instance.sandbox_id, session_key, words)
        delivery.turn = turn
        delivery.digests = item_digests.digests_of_items(turn.given.items)
        delivery.watched.expected, delivery.watched.is_lost = None, False

    async def _take_back(self, instance: Instance, session_key: str, items: Sequence[Item]) -> None:
        """Takes the latest messages back that got no answer and are said again now."""
        known = await self._queries.get(instance.id, session_key)
        again = {each: item for item in items if (each := item_digests.digest(item)) is not None}
        unanswered = list(known.unanswered)
        # OpenClaw itself sees it if the only message whose client had gone is said again.
        is_left = unanswered == [KnownItem(each, ItemStatus.CANCELLED) for each in again]
        while unanswered and unanswered[-1].digest in again:
            words = item_digests.item_text(again[unanswered.pop().digest])
            if words and not is_left:
                await self._rewinding.take_back(instance.sandbox_id, session_key, words)
        if len(unanswered) < len(known.unanswered):
            items_left = (*known.answered, *unanswered)
            self._queries.put(instance.id, session_key, replace(known, items=items_left))

    def _record(
        self, instance_id: InstanceId, session_key: str, delivery: Delivery, status: ItemStatus
    ) -> None:
        """Adds a message, and its answer if it got one."""
        if not delivery.is_sent:
            return
        known = self._queries.latest(instance_id, session_key)
        items = [KnownItem(each, status) for each in delivery.digests]
        earlier = known.items
        if status is ItemStatus.ANSWERED:
            items += [KnownItem(each) for each in delivery.answer or ()]
            earlier = (*known.answered, *map(_remembered, known.unanswered))
            earlier = tuple(each for each in earlier if each.status is ItemStatus.ANSWERED)
        session_id = delivery.watched.session_id or known.openclaw_session_id
        self._queries.put(
            instance_id, session_key, ConversationHistory(session_id, (*earlier, *items))
        )


def _remembered(item: KnownItem) -> KnownItem:
    """An item once a later one is answered.

    A message whose model call failed stays in the conversation. One whose client had gone is only
    quoted in the next one, and forgotten after it.
    """
    return KnownItem(item.digest) if item.status is ItemStatus.FAILED else item


def _words(items: Iterable[Item]) -> str:
    """What a message says last."""
    return next(filter(None, map(item_digests.item_text, reversed(list(items)))), "")
