"""Records model calls: log entries, metrics, events, failures and recordings."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chowder_local.core.errors.upstream import ProviderFailed, RelayFailed
from chowder_local.core.events import EventType

if TYPE_CHECKING:
    from chowder_local.core.domain import SandboxId
    from chowder_local.core.errors import ChowderError
    from chowder_local.core.events import Events
    from chowder_local.core.metrics import Metrics
    from chowder_local.relay.call_log import CallLog, LoggedCall
    from chowder_local.relay.calls import Credential, ModelAnswer, ModelCall
    from chowder_local.relay.prompt_format.failure_markers import FailureMarkers
    from chowder_local.relay.recordings.recorder import Recorder

_log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class CallJournal:
    """Records each call from its beginning to its end."""

    call_log: CallLog
    failures: FailureMarkers
    events: Events
    metrics: Metrics
    recorder: Recorder | None = None

    def begin(self, call: ModelCall, credential: Credential) -> LoggedCall:
        # OpenClaw sends one trace id a turn and one span id a call.
        _, _, trace = dict(call.headers).get("traceparent", "").partition("-")
        return self.call_log.begin(
            credential.organization_id,
            credential.instance_id,
            call.provider,
            call.path,
            call.body,
            trace.partition("-")[0] or None,
        )

    def append(self, logged: LoggedCall, chunk: bytes) -> None:
        self.call_log.append(logged, chunk)

    def finish(self, logged: LoggedCall, outcome: str, error: str | None = None) -> None:
        self.metrics.model_call(logged.provider, outcome)
        _log.debug(
            "Instance %s: model call of %s: %s", logged.instance_id, logged.provider, outcome
        )
        logged.finish(outcome, error)

    def remember(self, logged: LoggedCall, sandbox_id: SandboxId, failure: ChowderError) -> str:
        """Publishes a failure as an event and returns the marker by which it is found again."""
        if not isinstance(failure, RelayFailed):
            _log.warning("Instance %s: %s", logged.instance_id, failure)
        # Without the message: a provider may quote the request in it.
        status = failure.status if isinstance(failure, ProviderFailed) else None
        self.events.publish(
            EventType.MODEL_FAILED,
            logged.organization_id,
            logged.instance_id,
            provider=logged.provider,
            status=status,
            code=failure.code,
        )
        return self.failures.remember(failure, sandbox_id)

    def remember_unowned(self, failure: ChowderError) -> str:
        """The marker of a failure whose sandbox is unknown."""
        return self.failures.remember(failure, None)

    def record(self, call: ModelCall, answer: ModelAnswer, key: str) -> ModelAnswer:
        """A provider's answer; if the server records, its chunks are recorded as they pass."""
        if self.recorder is None:
            return answer
        return replace(answer, chunks=self.recorder.record_answer(call, answer, key))

    async def record_failure(self, call: ModelCall, failure: ProviderFailed, key: str) -> None:
        """Records a provider's refusal, if the server records."""
        if self.recorder is not None:
            await self.recorder.record_failure(call, failure, key)
