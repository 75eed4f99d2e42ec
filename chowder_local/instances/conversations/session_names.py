"""The names of sessions, and their keys in OpenClaw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from chowder_local.relay.local_model import SessionName

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chowder_local.core.domain import InstanceId
    from chowder_local.store.sessions import SessionQueries


@dataclass(eq=False, repr=False)
class SessionNames:
    """Stores names, and finds those that were used since the server was started."""

    sessions: SessionQueries
    clock: Callable[[], datetime]

    async def remember(self, instance_id: InstanceId, name: str) -> None:
        """Stores a name, and that its session is used now."""
        await self.sessions.remember(instance_id, name, session_key(name), self.clock())

    def find(self, instance_id: InstanceId, session_key: str) -> SessionName | None:
        """The session's name; None if the API did not name it, as in a messenger's chat."""
        if session_key == MAIN_KEY:
            return SessionName(None)
        name = self.sessions.name_of(instance_id, session_key)
        return None if name is None else SessionName(name)
