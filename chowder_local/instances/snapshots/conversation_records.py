"""What the store knows of an instance's conversations, as a snapshot carries it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from chowder_local.openclaw.session_keys import session_key
from chowder_local.store.conversation_histories import ConversationHistory
from chowder_local.store.sessions import RememberedSession

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import InstanceId
    from chowder_local.store.conversation_histories import ConversationHistoryQueries
    from chowder_local.store.sessions import SessionQueries


class ConversationRecords:
    """The names of sessions and what is known of their histories; texts are the agent's own."""

    def __init__(self, sessions: SessionQueries, histories: ConversationHistoryQueries) -> None:
        self._sessions = sessions
        self._histories = histories

    async def read(self, instance_id: InstanceId) -> dict[str, Any]:
        """`sessions` and `histories`, for a snapshot's content."""
        sessions = await self._sessions.of_instance(instance_id)
        histories = await self._histories.of_instance(instance_id)
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
        """Replaces an instance's by those of a snapshot's content, or by none."""
        histories = content.get("histories") or {}
        await self._histories.replace(
            instance_id,
            {key: ConversationHistory.from_json(each) for key, each in histories.items()},
        )
        await self._sessions.replace(
            instance_id,
            [
                RememberedSession(
                    instance_id,
                    each["name"],
                    session_key(each["name"]),
                    datetime.fromisoformat(each["created_at"]),
                    datetime.fromisoformat(each["last_used_at"]),
                )
                for each in content.get("sessions") or []
            ],
        )
