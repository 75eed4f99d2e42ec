"""The store's records of an instance's conversations, as content of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.session_keys import session_key
from chowder_local.store.conversation_histories import ConversationHistory
from chowder_local.store.sessions import NamedSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import InstanceId
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.sessions import SessionQueries


@dataclass(eq=False, repr=False)
class ConversationRecords:
    """Reads and writes session names and histories; the texts are in the agent's home."""

    sessions: SessionQueries
    histories: ConversationHistoryQueries

    async def read(self, instance_id: InstanceId) -> dict[str, Any]:
        """The `sessions` and `histories` of a snapshot's content."""
        sessions = await self.sessions.of_instance(instance_id)
        histories = await self.histories.of_instance(instance_id)
        return {
            "sessions": [
                {
                    "name": each.name,
                    "created_at": each.created_at.isoformat(),
                    "last_used_at": each.last_used_at.isoformat(),
                }
                for each in sessions
            ],
            "histories": {key: each.to_json() for key, each in histories.items()},
        }

    async def write(self, instance_id: InstanceId, content: Mapping[str, Any]) -> None:
        """Replaces an instance's records by those of a snapshot's content."""
        histories = content.get("histories") or {}
        await self.histories.replace(
            instance_id,
            {key: ConversationHistory.from_json(each) for key, each in histories.items()},
        )
        await self.sessions.replace(
            instance_id,
            [
                NamedSession(
                    instance_id,
                    each["name"],
                    session_key(each["name"]),
                    datetime.fromisoformat(each["created_at"]),
                    datetime.fromisoformat(each["last_used_at"]),
                )
                for each in content.get("sessions") or []
            ],
        )
