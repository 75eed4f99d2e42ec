"""Exports turns as OpenTelemetry traces, by the conventions for generative AI.

See https://opentelemetry.io/docs/specs/semconv/gen-ai/.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chowder_local import __version__
from chowder_local.core.tasks import logging_errors
from chowder_local.instances.conversations.trace_log import TurnStatus
from chowder_local.relay.prompt_format import TurnKind
from chowder_local.relay.turn_steps import Step, StepKind, steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from opentelemetry.trace import Span

    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.call_log import CallLog, ModelCall

log = logging.getLogger(__name__)

TRACES_PATH = "/v1/traces"
SERVICE = "chowder-local"
QUEUE_SIZE = 16_384
"""Spans that wait for the collector; with more, the SDK drops the oldest."""


@dataclass(eq=False, repr=False)
class TraceExport:
    """Exports turns in a thread of its own, so that no message waits for a collector."""

    provider: TracerProvider
    call_log: CallLog
    _: KW_ONLY
    has_content: bool = False

    def __post_init__(self) -> None:
        self._tracer = self.provider.get_tracer(SERVICE, __version__)
        self._thread = ThreadPoolExecutor(1, "trace-export")

    @classmethod
    def open(cls, endpoint: str, call_log: CallLog, *, has_content: bool) -> Self:
        """Exports to a collector's base URL, until it is closed.

        The SDK reads headers and time limits from the OTEL_EXPORTER_OTLP_… variables.
        """
        url = endpoint.rstrip("/")
        url = url if url.endswith(TRACES_PATH) else url + TRACES_PATH
        provider = TracerProvider(
            resource=Resource.create({"service.name": SERVICE, "service.version": __version__}),
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url), max_queue_size=QUEUE_SIZE)
        provider.add_span_processor(processor)
        return cls(provider, call_log, has_content=has_content)

    def close(self) -> None:
        """Sends what waits; blocks."""
        self._thread.shutdown()
        self.provider.shutdown()

    def turn(self, turn: TracedTurn) -> None:
        """Exports a turn that has ended."""
        # The log may soon drop the calls.
        found = (self.call_log.find(each) for each in turn.model_call_ids)
        calls = [each for each in found if each is not None]
        self._thread.submit(self._export, turn, calls)

    def _export(self, turn: TracedTurn, calls: Sequence[ModelCall]) -> None:
        with logging_errors("exporting a trace"):
            self._spans(turn, calls)

    def _spans(self, turn: TracedTurn, calls: Sequence[ModelCall]) -> None:
        ended_ns = _ns(turn.at, turn.took_s)
        call = self._request_span(turn) if turn.kind is TurnKind.MESSAGE else None
        agent = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": turn.instance_id,
            "gen_ai.conversation.id": turn.session_key,
            "gen_ai.response.id": turn.response_id,
            "chowder.turn.kind": str(turn.kind),
            "chowder.job": turn.job,
        }
        parent = Context() if call is None else set_span_in_context(call)
        run = self._span("invoke_agent", SpanKind.INTERNAL, parent, _ns(turn.at, 0), agent)
        inside = set_span_in_context(run)
        by_id = {each.id: each for each in calls}
        for step in steps_of(calls, turn.at):
            self._step(turn, step, by_id[step.model_call_id], inside)
        for span in filter(None, (run, call)):
            if turn.status is not TurnStatus.ANSWERED:
                span.set_status(StatusCode.ERROR, str(turn.status))
            span.end(ended_ns)

    def _request_span(self, turn: TracedTurn) -> Span:
        carrier = {} if turn.traceparent is None else {"traceparent": turn.traceparent}
        named = "/session/{session_id}" if turn.is_named else ""
        route = f"/v1/instances/{{instance_id}}{named}/responses"
        return self._span(
            f"POST {route}",
            SpanKind.SERVER,
            TraceContextTextMapPropagator().extract(carrier),
            _ns(turn.at, -turn.waited_s),
            {"http.request.method": "POST", "http.route": route},
        )

    def _step(self, turn: TracedTurn, step: Step, call: ModelCall, parent: Context) -> None:
        is_tool = step.kind is StepKind.TOOL
        attributes = _tool(step) if is_tool else _model_call(step, call)
        if self.has_content:
            attributes |= _tool_content(step) if is_tool else _content(call)
        name = f"execute_tool {step.name}" if is_tool else f"chat {step.name}"
        kind = SpanKind.INTERNAL if is_tool else SpanKind.CLIENT
        span = self._span(name, kind, parent, _ns(turn.at, step.after_s), attributes)
        if step.error is not None:
            span.set_status(StatusCode.ERROR, step.error)
        # A step without an end has ended with its turn at the latest.
        took_s = turn.took_s - step.after_s if step.took_s is None else step.took_s
        span.end(_ns(turn.at, step.after_s + max(took_s, 0.0)))

    def _span(
        self,
        name: str,
        kind: SpanKind,
        parent: Context,
        began_ns: int,
        attributes: Mapping[str, Any],
    ) -> Span:
        known = {key: value for key, value in attributes.items() if value is not None}
        return self._tracer.start_span(
            name, context=parent, kind=kind, start_time=began_ns, attributes=known
        )


def _model_call(step: Step, call: ModelCall) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": step.name,
        "gen_ai.usage.input_tokens": step.input_tokens,
        "gen_ai.usage.output_tokens": step.output_tokens,
        "chowder.cost_usd": step.cost_usd,
        "gen_ai.response.finish_reasons": ("tool_calls",) if call.output.calls else ("stop",),
        "http.response.status_code": call.status,
        "chowder.source": call.source,
        "chowder.model_call.id": call.id,
        "error.type": None if step.error is None else step.outcome,
    }


def _tool(step: Step) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": step.name,
        "gen_ai.tool.call.id": step.call_id,
        "gen_ai.tool.type": "function",
    }


def _content(call: ModelCall) -> dict[str, Any]:
    return {"gen_ai.input.messages": call.last_message, "gen_ai.output.messages": call.output.text}


def _tool_content(step: Step) -> dict[str, Any]:
    arguments = json.dumps(dict(step.arguments or {}), ensure_ascii=False)
    return {"gen_ai.tool.call.arguments": arguments}


def _ns(at: datetime, after_s: float) -> int:
    return int((at.timestamp() + after_s) * 1e9)
