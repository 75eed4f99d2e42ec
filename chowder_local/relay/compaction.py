"""Bounds the compaction of a conversation that is longer than its model takes.

Compaction is OpenClaw's: the model summarizes parts of the conversation, again and again until
OpenClaw accepts the summaries. Before that, the agent saves what it has to remember. A small model
may never write an acceptable summary, and OpenClaw waits up to three minutes for each.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cachetools import FIFOCache

from chowder_local.core.errors.upstream import ContextLengthExceeded
from chowder_local.relay.prompt_format import SAVING_SESSION, SUMMARIZER
from chowder_local.relay.wire.errors import read_overflow
from chowder_local.relay.wire.wire_format import MALFORMED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from chowder_local.core.domain import SandboxId
    from chowder_local.core.errors.upstream import ProviderFailed
    from chowder_local.relay.calls import RelayRequest
    from chowder_local.relay.prompt_format import FailureMarkers
    from chowder_local.relay.wire.errors import Overflow

MAX_CALLS = 12
"""Summaries of three parts, of the whole and of the latest turn, and one repetition of each."""

SETTING = "CHOWDER_COMPACTION_TIMEOUT_S"
"""The setting for the time limit, quoted in the error."""

_LENIENCE = "agents.defaults.compaction.qualityGuard.enabled=false makes it accept any"
T = TypeVar("T")

_KEPT_TURNS = 256
_MARGIN = 1.3
"""How far the rest must exceed the limit: a token may have two characters or five."""


@dataclass
class Compaction:
    began_s: float
    calls: int = 0
    hopeless: ProviderFailed | None = None
    """The provider's refusal of a prompt that no compaction can make short enough."""
    marker: str | None = None
    """Marker of the failure that is reported if no call follows the compaction."""


@dataclass(eq=False, repr=False)
class Compactions:
    """The compactions by the trace id that OpenClaw gives to each turn."""

    timeout_s: float
    failures: FailureMarkers
    clock_s: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._turns: FIFOCache[str, Compaction] = FIFOCache(_KEPT_TURNS)

    def find(
        self, request: RelayRequest, turn_id: str | None, sandbox_id: SandboxId
    ) -> Compaction | None:
        """The compaction that a call belongs to, if any."""
        if turn_id is None:
            return None
        if is_summary(request) or is_saving(request):
            compaction = self._of_turn(turn_id)
            if compaction.marker is None and is_summary(request):
                # OpenClaw ends a turn without an error if it rejects all summaries.
                failure = self._outgrown(request, f"with that model's summaries ({_LENIENCE})")
                compaction.marker = self.failures.remember(failure, sandbox_id)
            return compaction
        if (ended := self._turns.get(turn_id)) and ended.marker is not None:
            # A call after the compaction: the turn continues.
            self.failures.forget(ended.marker)
            ended.marker = None
        return None

    def count(self, request: RelayRequest, compaction: Compaction) -> None:
        """Counts a call of a compaction.

        Raises ContextLengthExceeded if the compaction has used up its calls or its time, and
        ProviderFailed if the prompt cannot become short enough.
        """
        if compaction.hopeless is not None:
            raise compaction.hopeless
        if compaction.calls >= MAX_CALLS:
            raise self._outgrown(request, f"within {MAX_CALLS} model calls")
        if self._left_s(compaction) <= 0:
            raise self._timed_out(request)
        compaction.calls += 1

    def overflow_message(
        self, request: RelayRequest, turn_id: str | None, failure: ProviderFailed
    ) -> str:
        """The text that makes OpenClaw compact a prompt; empty if compaction would not help."""
        compaction, overflow = self._turns.get(turn_id or ""), read_overflow(failure.reason)
        if (compaction is not None and compaction.hopeless is not None) or is_saving(request):
            return ""
        if overflow is None:
            return f" {failure.reason}"
        if is_hopeless(request, overflow) and not is_summary(request):
            if turn_id is not None:
                self._of_turn(turn_id).hopeless = failure
            return ""
        return f" {failure.reason} ({overflow})"

    async def in_time(
        self, request: RelayRequest, compaction: Compaction, result: Awaitable[T]
    ) -> T:
        """The result. Raises ContextLengthExceeded if the compaction's time ends before."""
        try:
            async with asyncio.timeout(max(0.0, self._left_s(compaction))):
                return await result
        except TimeoutError:
            raise self._timed_out(request) from None

    async def bound_chunks(
        self, request: RelayRequest, compaction: Compaction, chunks: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """The same chunks. Raises ContextLengthExceeded when the compaction's time ends."""
        async with aclosing(chunks):
            while (
                chunk := await self.in_time(request, compaction, anext(chunks, None))
            ) is not None:
                yield chunk

    def _of_turn(self, turn_id: str) -> Compaction:
        if turn_id not in self._turns:
            self._turns[turn_id] = Compaction(self.clock_s())
        return self._turns[turn_id]

    def _left_s(self, compaction: Compaction) -> float:
        return compaction.began_s + self.timeout_s - self.clock_s()

    def _timed_out(self, request: RelayRequest) -> ContextLengthExceeded:
        return self._outgrown(request, f"within {self.timeout_s:g} s ({SETTING})")

    def _outgrown(self, request: RelayRequest, bound: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(f"{request.provider}/{request.model}", bound)


def is_summary(request: RelayRequest) -> bool:
    """Whether a call asks for a summary of a part of a conversation."""
    return SUMMARIZER.encode() in request.body and SUMMARIZER in request.system_prompt


def is_saving(request: RelayRequest) -> bool:
    """Whether a call belongs to the turn in which an agent saves what it has to remember.

    If that turn fails, OpenClaw continues without it. It would compact that turn separately.
    """
    return request.session is not None and SAVING_SESSION in request.session.key


def is_hopeless(request: RelayRequest, overflow: Overflow) -> bool:
    """Whether a Chat Completions prompt is too long even without the conversation.

    Compaction keeps the system prompt, the tools and the latest user message. If these alone exceed
    the limit, it cannot help.
    """
    try:
        messages = request.content["messages"]
        lengths = [_length(message) for message in messages]
        tools = _length(request.content.get("tools"))
        is_kept = [message["role"] in ("system", "developer") for message in messages]
        last = max(at for at, message in enumerate(messages) if message["role"] == "user")
        is_kept[last] = True
    except MALFORMED:
        return False
    kept = tools + sum(length for length, stays in zip(lengths, is_kept, strict=True) if stays)
    kept_tokens = overflow.prompt_tokens * kept / max(1, tools + sum(lengths))
    return kept_tokens > _MARGIN * overflow.limit_tokens


def _length(value: Any) -> int:
    """Characters of the text in a value, without images: their length says nothing about tokens."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, dict):
        return sum(len(name) + _length(each) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(_length, value))
    return 1
