"""Whether an agent still remembers what was left out of the messages that it answers.

OpenClaw tells a model in its system prompt which session it is in, and begins another one when it
forgets: by its own rules, or because a person in a messenger asked for it. A message that relies
on an earlier session is not put to a model, and goes to the agent once more as a whole.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chowder_local.core.domain import SandboxId
    from chowder_local.relay.calls import ModelCall


class WatchedMessage:
    """A message that an agent works on; `expected` is the session that it relies on, if any."""

    def __init__(self, expected: str | None) -> None:
        self.expected = expected
        self.session_id: str | None = None
        """OpenClaw's session, once a model call has told it."""
        self.is_lost = False
        """Whether the session is another one than expected."""

    @property
    def is_certain(self) -> bool:
        """Whether nothing can come any more of which the client must not hear."""
        return self.expected is None or (self.session_id is not None and not self.is_lost)

    def see(self, session_id: str) -> None:
        self.session_id = session_id
        self.is_lost = self.expected not in (None, session_id)


class SessionWatch:
    """The messages that agents work on, by sandbox and OpenClaw's key of the conversation."""

    def __init__(self) -> None:
        self._messages: dict[tuple[SandboxId, str], list[WatchedMessage]] = {}

    @contextmanager
    def watching(
        self, sandbox_id: SandboxId, session_key: str, expected: str | None
    ) -> Iterator[WatchedMessage]:
        """A message that is answered in this block."""
        messages = self._messages.setdefault((sandbox_id, session_key), [])
        messages.append(message := WatchedMessage(expected))
        try:
            yield message
        finally:
            messages.remove(message)
            if not messages:
                self._messages.pop((sandbox_id, session_key), None)

    def is_active(self, sandbox_id: SandboxId, session_key: str) -> bool:
        return (sandbox_id, session_key) in self._messages

    def is_lost(self, sandbox_id: SandboxId, call: ModelCall) -> bool:
        """Whether a model call is of a message that relies on what is forgotten."""
        if not self._messages or (session := call.session) is None:
            return False
        messages = self._messages.get((sandbox_id, session.key), [])
        for message in messages:
            message.see(session.id)
        return any(message.is_lost for message in messages)
