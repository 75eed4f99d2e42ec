"""What a session is called, from the key by which OpenClaw knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.local_model import SessionName

if TYPE_CHECKING:
    from chowder_local.core.domain import InstanceId
    from chowder_local.store.sessions import SessionQueries


class SessionNames:
    """Knows those that were used since the server was started."""

    def __init__(self, sessions: SessionQueries) -> None:
        self._sessions = sessions

    def of(self, instance_id: InstanceId, session_key: str) -> SessionName | None:
        """The session's name; None if it is not ours, as that of a messenger's chat."""
        if session_key == MAIN_KEY:
            return SessionName(None)
        name = self._sessions.name_of(instance_id, session_key)
        return None if name is None else SessionName(name)
