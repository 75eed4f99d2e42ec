"""What an agent may spend within a turn on shortening a conversation that outgrew its model.

OpenClaw calls it compaction: it has the model summarize parts of the conversation, and repeats that
when the summaries are not to its liking. Before, it has the agent save what it has to remember. A
small model may write summaries for ever, and OpenClaw wait three minutes for each.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cachetools import FIFOCache

from chowder_local.core.errors.upstream import ContextLengthExceeded
from chowder_local.relay.prompt_format.system_prompt import SAVING_SESSION, SUMMARIZER
from chowder_local.relay.wire.errors import read_overflow
from chowder_local.relay.wire.wire_format import MALFORMED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from chowder_local.core.domain import SandboxId
    from chowder_local.core.errors.upstream import ProviderFailed
    from chowder_local.relay.calls import ModelCall
    from chowder_local.relay.prompt_format.failure_markers import FailureMarkers
    from chowder_local.relay.wire.errors import Overflow

MAX_CALLS = 12
"""A summary of each of three parts and one of all, the latest turn, and everything once more."""

SETTING = "CHOWDER_COMPACTION_TIMEOUT_S"
"""Which setting says how long, for those whose machines take longer."""

_LENIENCE = "agents.defaults.compaction.qualityGuard.enabled=false makes it take any"
T = TypeVar("T")

_KEPT_TURNS = 256
_MARGIN = 1.3
"""By how much what stays has to be too long; a token may be two characters or five."""


@dataclass
class Compaction:
    began_s: float
    calls: int = 0
    hopeless: ProviderFailed | None = None
    """The provider's refusal of a prompt that no compaction makes short enough."""
    marker: str | None = None
    """Of the failure that is reported if nothing comes after the compaction."""


class Compactions:
    """The compactions of turns by the trace that OpenClaw gives to each."""

    def __init__(
        self,
        timeout_s: float,
        failures: FailureMarkers,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._failures = failures
        self._clock_s = clock_s
        self._turns: FIFOCache[str, Compaction] = FIFOCache(_KEPT_TURNS)

    def find(
        self, call: ModelCall, turn_id: str | None, sandbox_id: SandboxId
    ) -> Compaction | None:
        """The compaction that a call is a part of, if it is one of a compaction."""
        if turn_id is None:
            return None
        if is_summary(call) or is_saving(call):
            compaction = self._of_turn(turn_id)
            if compaction.marker is None and is_summary(call):
                # OpenClaw ends a turn without a word of it if it makes nothing of the summaries.
                failure = self._outgrown(call, f"with that model's summaries ({_LENIENCE})")
                compaction.marker = self._failures.remember(failure, sandbox_id)
            return compaction
        if (ended := self._turns.get(turn_id)) and ended.marker is not None:
            # The turn goes on.
            self._failures.forget(ended.marker)
            ended.marker = None
        return None

    def count(self, call: ModelCall, compaction: Compaction) -> None:
        """Counts a call. Raises ContextLengthExceeded, ProviderFailed if it is not to be made."""
        if compaction.hopeless is not None:
            raise compaction.hopeless
        if compaction.calls >= MAX_CALLS:
            raise self._outgrown(call, f"within {MAX_CALLS} model calls")
        if self._left_s(compaction) <= 0:
            raise self._timed_out(call)
        compaction.calls += 1

    def overflow_message(
        self, call: ModelCall, turn_id: str | None, failure: ProviderFailed
    ) -> str:
        """What OpenClaw is to hear of a prompt that is too long: nothing if it cannot help it."""
        known, overflow = self._turns.get(turn_id or ""), read_overflow(failure.words)
        if (known is not None and known.hopeless is not None) or is_saving(call):
            return ""
        if overflow is None:
            return f" {failure.words}"
        if is_hopeless(call, overflow) and not is_summary(call):
            if turn_id is not None:
                self._of_turn(turn_id).hopeless = failure
            return ""
        return f" {failure.words} ({overflow})"

    async def in_time(self, call: ModelCall, compaction: Compaction, waited: Awaitable[T]) -> T:
        """What is waited for, if the compaction has the time. Raises ContextLengthExceeded."""
        try:
            async with asyncio.timeout(max(0.0, self._left_s(compaction))):
                return await waited
        except TimeoutError:
            raise self._timed_out(call) from None

    async def bound_chunks(
        self, call: ModelCall, compaction: Compaction, chunks: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """The same pieces, for as long as the compaction may take. Raises ContextLengthExceeded."""
        async with aclosing(chunks):
            while (chunk := await self.in_time(call, compaction, anext(chunks, None))) is not None:
                yield chunk

    def _of_turn(self, turn_id: str) -> Compaction:
        if turn_id not in self._turns:
            self._turns[turn_id] = Compaction(self._clock_s())
        return self._turns[turn_id]

    def _left_s(self, compaction: Compaction) -> float:
        return compaction.began_s + self._timeout_s - self._clock_s()

    def _timed_out(self, call: ModelCall) -> ContextLengthExceeded:
        return self._outgrown(call, f"within {self._timeout_s:g} s ({SETTING})")

    def _outgrown(self, call: ModelCall, bound: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(f"{call.provider}/{call.model}", bound)


def is_summary(call: ModelCall) -> bool:
    """Whether a call has a part of a conversation summarized."""
    return SUMMARIZER.encode() in call.body and SUMMARIZER in call.system_prompt


def is_saving(call: ModelCall) -> bool:
    """Whether a call is of the turn in which an agent saves what it has to remember.

    OpenClaw does without if it fails, and would have its conversation summarized apart.
    """
    return call.session is not None and SAVING_SESSION in call.session.key


def is_hopeless(call: ModelCall, overflow: Overflow) -> bool:
    """Whether what stays of a call of Chat Completions is too long without the conversation.

    OpenClaw shortens a conversation whose prompt was refused. Its system prompt, its tools and what
    the person said last stay, so there are prompts for which that is of no use.
    """
    try:
        messages = call.content["messages"]
        lengths = [_length(message) for message in messages]
        tools = _length(call.content.get("tools"))
        is_kept = [message["role"] in ("system", "developer") for message in messages]
        last = max(at for at, message in enumerate(messages) if message["role"] == "user")
        is_kept[last] = True
    except MALFORMED:
        return False
    kept = tools + sum(length for length, stays in zip(lengths, is_kept, strict=True) if stays)
    kept_tokens = overflow.prompt_tokens * kept / max(1, tools + sum(lengths))
    return kept_tokens > _MARGIN * overflow.limit_tokens


def _length(value: Any) -> int:
    """Characters of the text in a value; those of images are no measure of their tokens."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, dict):
        return sum(len(name) + _length(each) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(_length, value))
    return 1
