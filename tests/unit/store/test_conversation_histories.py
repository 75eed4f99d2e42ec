"""Conversation histories are visible at once, and survive a restart."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import InstanceId
from chowder_local.core.secrets import SecretBox
from chowder_local.store import conversation_histories
from chowder_local.store.conversation_histories import (
    MAX_ITEMS,
    ConversationHistory,
    ConversationHistoryQueries,
    HistoryItem,
    ItemStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from chowder_local.core.domain import Instance, Organization
    from chowder_local.store.database import Database
    from chowder_local.store.instances import InstanceQueries

BOX = SecretBox(b"s" * 32)
INSTANCE, KEY = InstanceId("instance-1"), "agent:main:main"
HISTORY = ConversationHistory(
    "session-1", (HistoryItem(b"1" * 16), HistoryItem(b"2" * 16, ItemStatus.FAILED))
)
EMPTY = ConversationHistory()
SECOND = timedelta(seconds=1)


@pytest.fixture
async def instances(instances: InstanceQueries, make: Callable[..., Instance]) -> InstanceQueries:
    await instances.add(make(1), None)
    return instances


@pytest.mark.usefixtures("instances")
async def test_a_history_is_visible_at_once_and_after_a_restart(database: Database) -> None:
    queries = ConversationHistoryQueries(database, BOX)
    assert await queries.get(INSTANCE, KEY) == EMPTY
    queries.put(INSTANCE, KEY, HISTORY)
    assert await queries.get(INSTANCE, KEY) == queries.latest(INSTANCE, KEY) == HISTORY
    assert await queries.of_instance(INSTANCE) == {KEY: HISTORY}
    await queries.write()
    again = ConversationHistoryQueries(database, BOX)
    assert await again.get(INSTANCE, KEY) == HISTORY
    assert await again.get(INSTANCE, "agent:main:s-1") == EMPTY


@pytest.mark.usefixtures("instances")
async def test_the_histories_of_an_instance_are_replaced(database: Database) -> None:
    queries = ConversationHistoryQueries(database, BOX)
    queries.put(INSTANCE, "agent:main:s-1", HISTORY)
    await queries.replace(INSTANCE, {KEY: ConversationHistory.from_json(HISTORY.to_json())})
    await queries.write()
    assert await queries.of_instance(INSTANCE) == {KEY: HISTORY}
    assert await queries.get(INSTANCE, "agent:main:s-1") == EMPTY


@pytest.mark.usefixtures("instances")
async def test_a_lost_turn_is_there_after_a_restart_until_the_session_goes_on(
    database: Database, organization: Organization
) -> None:
    begin = organization.created_at
    queries = ConversationHistoryQueries(database, BOX)
    queries.add_unsaved(INSTANCE, KEY, begin, [{"content": "In the copy."}])
    queries.add_unsaved(INSTANCE, KEY, begin + SECOND, [{"content": "Hello."}])
    assert await queries.lose_unsaved(INSTANCE, begin) == {KEY: 1}
    again = ConversationHistoryQueries(database, BOX)
    await again.forget_unsaved(INSTANCE, begin + SECOND)
    assert [each.items for each in await again.lost(INSTANCE, KEY)] == [({"content": "Hello."},)]
    again.add_unsaved(INSTANCE, KEY, begin + 2 * SECOND, [{"content": "Hello and goodbye."}])
    assert await again.lost(INSTANCE, KEY) == []
    await again.write()
    assert await ConversationHistoryQueries(database, BOX).lost(INSTANCE, KEY) == []


@pytest.mark.usefixtures("instances")
async def test_a_turn_is_lost_once_although_two_tasks_write_it_and_a_write_is_repeated(
    database: Database, organization: Organization
) -> None:
    begin = organization.created_at
    queries = ConversationHistoryQueries(database, BOX)
    queries.add_unsaved(INSTANCE, KEY, begin, [{"content": "Hello."}])
    await asyncio.gather(queries.write(), queries.lose_unsaved(INSTANCE, begin - SECOND))
    assert [each.items for each in await queries.lost(INSTANCE, KEY)] == [({"content": "Hello."},)]
    queries.add_unsaved(INSTANCE, KEY, begin, [{"content": "Hello."}])
    assert await queries.lose_unsaved(INSTANCE, begin - SECOND) == {KEY: 1}


@pytest.mark.usefixtures("instances")
async def test_turns_without_a_snapshot_are_bounded(
    database: Database, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_histories, "MAX_UNSAVED_TURNS", 3)
    queries = ConversationHistoryQueries(database, BOX)
    for number in range(5):
        at = organization.created_at + number * SECOND
        queries.add_unsaved(INSTANCE, KEY, at, [{"content": f"{number}"}])
        await queries.write()
    assert (await queries.lose_unsaved(INSTANCE, organization.created_at - SECOND)).total() == 3


def test_only_the_latest_items_of_a_long_history_are_stored() -> None:
    items = tuple(HistoryItem(number.to_bytes(16)) for number in range(MAX_ITEMS + 1))
    packed = ConversationHistory("session-1", items).to_bytes()
    assert ConversationHistory.from_bytes("session-1", packed).items == items[1:]


@pytest.mark.parametrize("packed", [b"a", b"x" + b"1" * 16])
def test_invalid_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"status|incomplete"):
        ConversationHistory.from_bytes(None, packed)
