"""The latest model calls of each instance, kept in memory, and all that records one."""

from __future__ import annotations

import itertools
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from chowder_local.core.errors.upstream import ProviderFailed, RelayFailed
from chowder_local.core.events import ChangeSignal, EventType
from chowder_local.relay.calls import RelayRequest, wire_format
from chowder_local.relay.prices import Prices
from chowder_local.relay.prompt_format import ModelRequest
from chowder_local.relay.recordings import RecordedAnswer, RecordedCall, RecordedRequest, file_name
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chowder_local.core.domain import InstanceId, OrganizationId, SandboxId
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.events import Events
    from chowder_local.core.metrics import Metrics
    from chowder_local.relay.calls import Credential, ModelAnswer
    from chowder_local.relay.prompt_format import FailureMarkers, PromptSession
    from chowder_local.relay.recordings import Recorder
    from chowder_local.relay.wire.wire_format import ModelOutput, Usage

MAX_BYTES = 32 * 1024 * 1024
"""An agent's call has about 70 kB, most of it OpenClaw's own instructions."""
MAX_ANSWER_BYTES = 1024 * 1024
"""The limit for each answer. Bytes beyond it are counted but not kept."""
_GOOD_OUTCOMES = ("answered", "offline")


@dataclass(frozen=True)
class Chunk:
    """Bytes of an answer, and the seconds from the call's beginning to their arrival."""

    after_s: float
    data: bytes


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that failed, after which the relay has retried the call."""

    source: str
    status: int | None
    """None if there was no answer."""
    waited_s: float


@dataclass
class ModelCall:
    """A model call and its answer so far, as the log has it: without headers, so without a key."""

    id: str
    organization_id: OrganizationId | None
    instance_id: InstanceId | None
    provider: str
    path: str
    body: bytes
    turn_id: str | None
    """All calls of a turn have the same one."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = "provider"
    """What answers: `provider`, `offline`, `recording`, or `script: ` and the rule's name."""
    status: int | None = None
    content_type: str = ""
    outcome: str | None = None
    """None while the call is in progress."""
    error: str | None = None
    tries: list[FailedAttempt] = field(default_factory=list)
    """The attempts before the current one."""
    chunks: list[Chunk] = field(default_factory=list)
    answer_bytes: int = 0
    took_s: float | None = None
    prices: Prices = field(default_factory=Prices)
    is_held: bool = False
    """Whether it waits for somebody to let it go on."""
    on_finish: Callable[[], object] | None = None
    """Called once it has ended; set for the calls of turns."""
    _began_s: float = field(default_factory=time.monotonic)
    _notify: Callable[[], None] = lambda: None

    def append(self, data: bytes) -> int:
        """Keeps a part of the answer if there is room for it. Returns the number of bytes kept."""
        is_kept = self.answer_bytes + len(data) <= MAX_ANSWER_BYTES
        self.answer_bytes += len(data)
        if not is_kept:
            return 0
        self.chunks.append(Chunk(time.monotonic() - self._began_s, data))
        return len(data)

    def retry(self, status: int | None, waited_s: float = 0.0) -> None:
        self.tries.append(FailedAttempt(self.source, status, waited_s))
        self._notify()

    def mark_held(self, *, is_held: bool) -> None:
        self.is_held = is_held
        self._notify()

    def finish(self, outcome: str, error: str | None = None) -> None:
        self.outcome, self.error = outcome, error
        self.took_s = time.monotonic() - self._began_s
        self._notify()
        if self.on_finish is not None:
            # What it knows is not kept with the call.
            on_finish, self.on_finish = self.on_finish, None
            on_finish()

    @property
    def request(self) -> RelayRequest:
        """A new object each time, so that its parsed body is not kept in the log."""
        return RelayRequest(self.provider, "POST", self.path, "", (), self.body)

    @cached_property
    def session(self) -> PromptSession | None:
        """The OpenClaw session of the call; None if its system prompt does not name one."""
        return self.request.session

    @cached_property
    def session_key(self) -> str | None:
        return None if self.session is None else self.session.key

    @cached_property
    def model(self) -> str | None:
        return self.request.model

    @cached_property
    def last_message(self) -> str | None:
        """The latest user message; None if the call has none. Parses the whole request."""
        parsed = self.request.parse()
        if not isinstance(parsed, ParsedRequest):
            return None
        return ModelRequest.from_conversation(parsed.conversation).text or None

    @property
    def answer(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def output(self) -> ModelOutput:
        """The kept part of the answer, parsed."""
        return wire_format(self.provider).read_output(self.answer)

    @property
    def has_own_price(self) -> bool:
        """Whether a provider answers for which the operator has set a price."""
        return self.is_of_provider and self.prices.has_own(self.request.model_id)

    def cost_usd(self, usage: Usage) -> float | None:
        """What a usage of its tokens costs; None if the model has no known price."""
        return self.prices.cost_usd(self.request.model_id, usage, is_billed=self.is_of_provider)

    @property
    def is_of_provider(self) -> bool:
        """Whether a provider answers, and not the server itself."""
        return self.source == "provider"

    @property
    def success_outcome(self) -> str:
        return "answered" if self.is_of_provider else "offline"

    @property
    def is_whole(self) -> bool:
        """Whether the call has succeeded and all bytes of its answer are kept."""
        return self.outcome in _GOOD_OUTCOMES and self.has_whole_answer

    @property
    def has_whole_answer(self) -> bool:
        """Whether all bytes of its answer so far are kept."""
        return self._kept_bytes == self.answer_bytes

    @property
    def size_bytes(self) -> int:
        return len(self.body) + self._kept_bytes

    @property
    def _kept_bytes(self) -> int:
        return sum(len(chunk.data) for chunk in self.chunks)


class CallLog:
    """The latest calls, up to `max_bytes` in total. Use it in one event loop only."""

    def __init__(self, max_bytes: int = MAX_BYTES, prices: Prices | None = None) -> None:
        self._max_bytes = max_bytes
        self._prices = prices or Prices()
        self._kept: OrderedDict[str, ModelCall] = OrderedDict()
        self._bytes = 0
        self._numbers = itertools.count(1)
        self.changes = ChangeSignal()
        """A call begins, is retried or ends."""

    def begin(
        self,
        organization_id: OrganizationId | None,
        instance_id: InstanceId | None,
        provider: str,
        path: str,
        body: bytes,
        turn_id: str | None = None,
    ) -> ModelCall:
        """Adds a call for the caller to complete. A call of a warm sandbox is not kept."""
        call = ModelCall(
            f"ex-{next(self._numbers)}",
            organization_id,
            instance_id,
            provider,
            path,
            body,
            turn_id,
            prices=self._prices,
            _notify=self.changes.notify,
        )
        if instance_id is not None:
            self._kept[call.id] = call
            self._grow(len(body))
            self.changes.notify()
        return call

    def append(self, call: ModelCall, data: bytes) -> None:
        if call.id in self._kept:
            self._grow(call.append(data))

    def replace_body(self, call: ModelCall, body: bytes) -> None:
        """Keeps the body that is sent in place of the one that was held."""
        size_bytes, call.body = len(call.body), body
        for name in ("session", "session_key", "model", "last_message"):
            vars(call).pop(name, None)
        if call.id in self._kept:
            self._grow(len(body) - size_bytes)

    def of_instance(self, instance_id: InstanceId) -> Iterator[ModelCall]:
        """The instance's calls, latest first."""
        return (each for each in reversed(self._kept.values()) if each.instance_id == instance_id)

    def of_organization(self, organization_id: OrganizationId) -> Iterator[ModelCall]:
        """The organization's calls, latest first."""
        kept = reversed(self._kept.values())
        return (each for each in kept if each.organization_id == organization_id)

    def latest(self) -> dict[InstanceId, ModelCall]:
        """The latest call of each instance that has made one."""
        return {
            each.instance_id: each for each in self._kept.values() if each.instance_id is not None
        }

    def find(self, call_id: str) -> ModelCall | None:
        """The call with the id, of any organization; None if it is gone."""
        return self._kept.get(call_id)

    def get(self, organization_id: OrganizationId, call_id: str) -> ModelCall | None:
        """The call with the id; None if it is gone or belongs to another organization."""
        call = self._kept.get(call_id)
        return call if call is not None and call.organization_id == organization_id else None

    def has_held(self, instance_id: InstanceId) -> bool:
        """Whether a call of the instance is held."""
        return any(each.is_held for each in self.of_instance(instance_id))

    def remove(self, instance_id: InstanceId) -> None:
        """Drops the calls of an instance that is deleted."""
        for each in list(self.of_instance(instance_id)):
            del self._kept[each.id]
            self._bytes -= each.size_bytes
        self.changes.notify()

    def _grow(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size_bytes


_log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class CallJournal:
    """Records each call from its beginning to its end."""

    call_log: CallLog
    failures: FailureMarkers
    events: Events
    metrics: Metrics
    recorder: Recorder | None = None
    on_call: Callable[[ModelCall], None] | None = None
    """Is called with each call at its beginning and at its end."""

    def begin(
        self, request: RelayRequest, credential: Credential, session: PromptSession | None
    ) -> ModelCall:
        # OpenClaw sends one trace id a turn and one span id a call.
        _, _, trace = dict(request.headers).get("traceparent", "").partition("-")
        call = self.call_log.begin(
            credential.organization_id,
            credential.instance_id,
            request.provider,
            request.path,
            request.body,
            trace.partition("-")[0] or None,
        )
        call.session = session
        if self.on_call is not None:
            self.on_call(call)
        return call

    def append(self, call: ModelCall, chunk: bytes) -> None:
        self.call_log.append(call, chunk)

    def finish(self, call: ModelCall, outcome: str, error: str | None = None) -> None:
        self.metrics.model_call(call.provider, outcome)
        _log.debug("Instance %s: model call of %s: %s", call.instance_id, call.provider, outcome)
        call.finish(outcome, error)
        if self.on_call is not None:
            self.on_call(call)

    def remember(self, call: ModelCall, sandbox_id: SandboxId, failure: ChowderError) -> str:
        """Publishes a failure as an event and returns the marker by which it is found again."""
        if not isinstance(failure, RelayFailed):
            _log.warning("Instance %s: %s", call.instance_id, failure)
        # Without the message: a provider may quote the request in it.
        status = failure.status if isinstance(failure, ProviderFailed) else None
        self.events.publish(
            EventType.MODEL_FAILED,
            call.organization_id,
            call.instance_id,
            provider=call.provider,
            status=status,
            code=failure.code,
        )
        return self.failures.remember(failure, sandbox_id)

    def remember_unowned(self, failure: ChowderError) -> str:
        """The marker of a failure whose sandbox is unknown."""
        return self.failures.remember(failure, None)

    def record(self, request: RelayRequest, answer: ModelAnswer, key: str) -> ModelAnswer:
        """A provider's answer; if the server records, its chunks are recorded as they pass."""
        if self.recorder is None:
            return answer
        return replace(answer, chunks=self.recorder.record_answer(request, answer, key))

    async def record_failure(
        self, request: RelayRequest, failure: ProviderFailed, key: str
    ) -> None:
        """Records a provider's refusal, if the server records."""
        if self.recorder is not None:
            await self.recorder.record_failure(request, failure, key)


def make_recording(calls: Iterable[ModelCall]) -> dict[str, RecordedCall]:
    """The entries of calls by file name, without calls whose answer is incomplete."""
    entries: dict[str, RecordedCall] = {}
    for call in calls:
        request = RecordedRequest.from_request(call.request)
        if request is not None and call.is_whole and call.status is not None:
            answer = RecordedAnswer.from_body(call.status, call.content_type, call.answer)
            entry = RecordedCall(asked=request, answered=answer)
            entries[file_name(len(entries) + 1, entry)] = entry
    return entries
