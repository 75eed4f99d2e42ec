"""Conversation histories are visible at once, and survive a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.domain import Instance, InstanceId, InstanceStatus, ModelProvider, SandboxId
from chowder_local.core.secrets import SecretBox
from chowder_local.store.conversation_histories import (
    MAX_ITEMS,
    ConversationHistory,
    ConversationHistoryQueries,
    HistoryItem,
    ItemStatus,
)
from chowder_local.store.instances import InstanceQueries

if TYPE_CHECKING:
    from chowder_local.core.domain import Organization
    from chowder_local.store.database import Database

INSTANCE, KEY = InstanceId("instance-1"), "agent:main:main"
HISTORY = ConversationHistory(
    "session-1", (HistoryItem(b"1" * 16), HistoryItem(b"2" * 16, ItemStatus.FAILED))
)
EMPTY = ConversationHistory()


@pytest.fixture
async def instances(database: Database, organization: Organization) -> InstanceQueries:
    instance = Instance(
        id=INSTANCE,
        organization_id=organization.id,
        name="cook",
        status=InstanceStatus.RUNNING,
        model_provider=ModelProvider.OPENAI,
        sandbox_id=SandboxId("chowder-1"),
        created_at=organization.created_at,
        updated_at=organization.created_at,
    )
    instances = InstanceQueries(database, SecretBox(b"s" * 32))
    await instances.add(instance, None)
    return instances


@pytest.mark.usefixtures("instances")
async def test_a_history_is_visible_at_once_and_after_a_restart(database: Database) -> None:
    queries = ConversationHistoryQueries(database)
    assert await queries.get(INSTANCE, KEY) == EMPTY
    queries.put(INSTANCE, KEY, HISTORY)
    assert await queries.get(INSTANCE, KEY) == queries.latest(INSTANCE, KEY) == HISTORY
    assert await queries.of_instance(INSTANCE) == {KEY: HISTORY}
    await queries.write()
    again = ConversationHistoryQueries(database)
    assert await again.get(INSTANCE, KEY) == HISTORY
    assert await again.get(INSTANCE, "agent:main:s-1") == EMPTY


@pytest.mark.usefixtures("instances")
async def test_the_histories_of_an_instance_are_replaced(database: Database) -> None:
    queries = ConversationHistoryQueries(database)
    queries.put(INSTANCE, "agent:main:s-1", HISTORY)
    await queries.replace(INSTANCE, {KEY: ConversationHistory.from_json(HISTORY.to_json())})
    await queries.write()
    assert await queries.of_instance(INSTANCE) == {KEY: HISTORY}
    assert await queries.get(INSTANCE, "agent:main:s-1") == EMPTY


def test_only_the_latest_items_of_a_long_history_are_stored() -> None:
    items = tuple(HistoryItem(number.to_bytes(16)) for number in range(MAX_ITEMS + 1))
    packed = ConversationHistory("session-1", items).to_bytes()
    assert ConversationHistory.from_bytes("session-1", packed).items == items[1:]


@pytest.mark.parametrize("packed", [b"a", b"x" + b"1" * 16])
def test_invalid_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"status|incomplete"):
        ConversationHistory.from_bytes(None, packed)
