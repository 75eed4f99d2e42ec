"""Finds the message in progress that a model call belongs to, and whether its session is forgotten.

OpenClaw names the session in each system prompt and starts another one when it forgets: by its own
rules, or because a person in a messenger asks for it. A message that leaves out the history and
relies on an earlier session does not reach a model; it is sent to the agent again as a whole.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from chowder_local.relay.prompt_format import is_side_task, is_subagent, marked_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chowder_local.core.domain import SandboxId
    from chowder_local.relay.call_log import ModelCall

TURNS_KEPT = 10_000


class UnaskedCalls(Protocol):
    """Takes the model calls that belong to no client's message."""

    def is_open(self, sandbox_id: SandboxId, call: ModelCall) -> bool:
        """Whether a call belongs to an unasked turn in progress."""

    def note(self, sandbox_id: SandboxId, call: ModelCall) -> None:
        """Adds a call to its unasked turn, or begins one with it."""


@dataclass(eq=False, repr=False)
class WatchedMessage:
    """A message in progress; `expected` is the id of the session that it relies on, if any."""

    expected: str | None
    text: str = ""
    on_call: Callable[[ModelCall], None] = lambda _: None
    """Is called with each of its model calls when it begins."""

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
        self._turns: LRUCache[tuple[SandboxId, str], None] = LRUCache(TURNS_KEPT)
        """The turns that have begun, of messages and others."""
        self.unasked: UnaskedCalls | None = None

    @contextmanager
    def watching(
        self,
        sandbox_id: SandboxId,
        session_key: str,
        expected: str | None,
        text: str = "",
        on_call: Callable[[ModelCall], None] = lambda _: None,
    ) -> Iterator[WatchedMessage]:
        """Watches a message for as long as the block runs; `text` is what it says."""
        messages = self._messages.setdefault((sandbox_id, session_key), [])
        messages.append(message := WatchedMessage(expected, text, on_call))
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
        session = call.session
        messages = [] if session is None else self._messages.get((sandbox_id, session.key), [])
        if self._is_unasked(sandbox_id, call, messages):
            return True
        self._remember(sandbox_id, call)
        if session is None or not session.id:
            return True
        for message in messages:
            message.note_session(session.id)
        if messages:
            message = _owner(messages, call)
            message.turn_id = message.turn_id or call.turn_id
            message.calls.append(call)
            message.on_call(call)
        return not any(message.is_lost for message in messages)

    def _is_unasked(
        self, sandbox_id: SandboxId, call: ModelCall, messages: Sequence[WatchedMessage]
    ) -> bool:
        """Whether a call belongs to no message; if so, it is passed on."""
        # A warm sandbox has no instance.
        if self.unasked is None or call.instance_id is None:
            return False
        if any(each.turn_id == call.turn_id is not None for each in messages):
            return False
        if not self.unasked.is_open(sandbox_id, call):
            is_marked = marked_origin(call.body) is not None
            if messages:
                # A client may write what OpenClaw writes.
                last = (call.last_message or "") if is_marked else ""
                if not is_marked or any(each.text and each.text in last for each in messages):
                    return False
            elif not is_marked and self._is_of_message(sandbox_id, call):
                return True
        self._remember(sandbox_id, call)
        self.unasked.note(sandbox_id, call)
        return True

    def _is_of_message(self, sandbox_id: SandboxId, call: ModelCall) -> bool:
        """Whether a call is work for a message, such as a summary, or its last one if cancelled."""
        if is_subagent(call.session_key):
            return False
        if (sandbox_id, call.turn_id) in self._turns:
            return True
        return is_side_task(call.session_key) and any(
            sandbox == sandbox_id and any(each.turn_id is None for each in messages)
            for (sandbox, _), messages in self._messages.items()
        )

    def _remember(self, sandbox_id: SandboxId, call: ModelCall) -> None:
        if call.turn_id is not None:
            self._turns[sandbox_id, call.turn_id] = None


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
