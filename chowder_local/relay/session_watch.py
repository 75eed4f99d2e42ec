"""Detects whether an agent has forgotten the session that a message relies on.

OpenClaw names the session in each system prompt and starts another one when it forgets: by its own
rules, or because a person in a messenger asks for it. A message that leaves out the history and
relies on an earlier session does not reach a model; it is sent to the agent again as a whole.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.relay.call_log import ModelCall


@dataclass(eq=False, repr=False)
class WatchedMessage:
    """A message in progress; `expected` is the id of the session that it relies on, if any."""

    expected: str | None
    text: str = ""

    def __post_init__(self) -> None:
        self.session_id: str | None = None
        """The session that the first model call named; None before it."""
        self.is_lost = False
        """Whether the session differs from the expected one."""
        self.turn_id: str | None = None
        """OpenClaw's id of the message's turn; None before its first model call."""
        self.calls: list[ModelCall] = []
        """Its model calls, in their order."""

    @property
    def is_certain(self) -> bool:
        """Whether output may go to the client: the message will not have to be sent again."""
        return self.expected is None or (self.session_id is not None and not self.is_lost)

    def note_session(self, session_id: str) -> None:
        self.session_id = session_id
        self.is_lost = self.expected not in (None, session_id)


class SessionWatch:
    """The messages in progress by sandbox and OpenClaw's session key."""

    def __init__(self) -> None:
        self._messages: dict[tuple[SandboxId, str], list[WatchedMessage]] = {}

    @contextmanager
    def watching(
        self, sandbox_id: SandboxId, session_key: str, expected: str | None, text: str = ""
    ) -> Iterator[WatchedMessage]:
        """Watches a message for as long as the block runs; `text` is what it says."""
        messages = self._messages.setdefault((sandbox_id, session_key), [])
        messages.append(message := WatchedMessage(expected, text))
        try:
            yield message
        finally:
            messages.remove(message)
            if not messages:
                self._messages.pop((sandbox_id, session_key), None)

    def is_active(self, sandbox_id: SandboxId, session_key: str) -> bool:
        return (sandbox_id, session_key) in self._messages

    def note(self, sandbox_id: SandboxId, call: ModelCall) -> bool:
        """Notes a model call; False if it belongs to a message whose session is forgotten."""
        if not self._messages or (session := call.request.session) is None or not session.id:
            return True
        messages = self._messages.get((sandbox_id, session.key), [])
        for message in messages:
            message.note_session(session.id)
        if messages:
            message = _owner(messages, call)
            message.turn_id = message.turn_id or call.turn_id
            message.calls.append(call)
        return not any(message.is_lost for message in messages)


def _owner(messages: Sequence[WatchedMessage], call: ModelCall) -> WatchedMessage:
    """The message of a model call.

    OpenClaw takes the waiting messages of a session one after another, in any order.
    """
    for message in messages:
        if message.turn_id is not None and message.turn_id == call.turn_id:
            return message
    waiting = [each for each in messages if each.turn_id is None]
    if len(waiting) > 1:
        last = call.last_message or ""
        if matching := [each for each in waiting if each.text in last]:
            return max(matching, key=lambda each: len(each.text))
    return (waiting or messages)[0]
