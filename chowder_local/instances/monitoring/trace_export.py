"""Exports turns as OpenTelemetry traces, by the conventions for generative AI.

See https://opentelemetry.io/docs/specs/semconv/gen-ai/: `gen-ai-spans` and `gen-ai-agent-spans` for
names and attributes, `gen-ai-input-messages.json` and `gen-ai-output-messages.json` for what
messages say. Phoenix reads these from 15.10 on (https://github.com/Arize-ai/phoenix/pull/13267).
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chowder_local import __version__
from chowder_local.core.domain import MAIN_SESSION, ModelProvider
from chowder_local.core.secrets import redact, redact_values
from chowder_local.core.tasks import logging_errors
from chowder_local.instances.conversations.trace_log import TEXT_MAX, TurnStatus
from chowder_local.relay.prompt_format import TurnKind
from chowder_local.relay.turn_steps import Step, StepKind, results_before, steps_of
from chowder_local.relay.wire.conversation import AssistantText, ToolCall, ToolResult, UserMessage
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from opentelemetry.trace import Span

    from chowder_local.core.domain import InstanceId
    from chowder_local.instances.conversations.trace_log import TracedTurn
    from chowder_local.relay.call_log import CallLog, ModelCall
    from chowder_local.relay.local_model import SessionName
    from chowder_local.relay.wire.conversation import PromptTurn
    from chowder_local.relay.wire.wire_format import ModelOutput

log = logging.getLogger(__name__)

TRACES_PATH = "/v1/traces"
SERVICE = "chowder-local"
QUEUE_SIZE = 16_384
"""Spans that wait for the collector; with more, the SDK drops the oldest."""
MAX_TEXT = 8_000
MAX_CONTENT = 32_000
"""The most characters of a text, and of the messages of a span: all that wait are in memory."""
AGENT_PROVIDER = "openclaw"
"""The provider of an agent that has not called a model."""
_VALUES = ("input.value", "output.value")
"""What lists of traces show in Phoenix, by the conventions of OpenInference
(https://arize-ai.github.io/openinference/spec/): of an agent it reads no messages."""
_PROVIDERS: Mapping[str, str] = {ModelProvider.GEMINI: "gcp.gemini"}
"""The conventions' names of providers, where they are others."""


@dataclass(eq=False, repr=False)
class TraceExport:
    """Exports turns in a thread of its own, so that no message waits for a collector."""

    provider: TracerProvider
    call_log: CallLog
    find_session_name: Callable[[InstanceId, str], SessionName | None]
    _: KW_ONLY
    has_content: bool = False

    def __post_init__(self) -> None:
        self._tracer = self.provider.get_tracer(SERVICE, __version__)
        self._thread = ThreadPoolExecutor(1, "trace-export")

    @classmethod
    def open(
        cls,
        endpoint: str,
        call_log: CallLog,
        find_session_name: Callable[[InstanceId, str], SessionName | None],
        *,
        has_content: bool,
    ) -> Self:
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
        return cls(provider, call_log, find_session_name, has_content=has_content)

    def close(self) -> None:
        """Sends what waits; blocks."""
        self._thread.shutdown()
        self.provider.shutdown()

    def turn(self, turn: TracedTurn) -> None:
        """Exports a turn that has ended."""
        # The log may soon drop the calls.
        found = (self.call_log.find(each) for each in turn.model_call_ids)
        calls = [each for each in found if each is not None]
        self._thread.submit(self._export, turn, self._conversation(turn), calls)

    def _conversation(self, turn: TracedTurn) -> str | None:
        """An id that no other agent's conversation has, of the names that the API has for it."""
        if turn.session_key is None:
            return None
        name = self.find_session_name(turn.instance_id, turn.session_key)
        session = turn.session_key if name is None else name.name or MAIN_SESSION
        return f"{turn.instance_id}/{session}"

    def _export(
        self, turn: TracedTurn, conversation: str | None, calls: Sequence[ModelCall]
    ) -> None:
        with logging_errors("exporting a trace"):
            self._spans(turn, conversation, calls)

    def _spans(
        self, turn: TracedTurn, conversation: str | None, calls: Sequence[ModelCall]
    ) -> None:
        ended_ns = _ns(turn.at, turn.took_s)
        call = self._request_span(turn) if turn.kind is TurnKind.MESSAGE else None
        parent = Context() if call is None else set_span_in_context(call)
        agent = _agent(turn, calls) | {"gen_ai.conversation.id": conversation}
        if self.has_content:
            content = _agent_content(turn, calls)
            agent |= content
            if call is not None:
                call.set_attributes({name: content[name] for name in _VALUES if content[name]})
        name = f"invoke_agent {turn.agent_name}" if turn.agent_name else "invoke_agent"
        run = self._span(name, SpanKind.INTERNAL, parent, _ns(turn.at, 0), agent)
        inside = set_span_in_context(run)
        steps = iter(steps_of(calls, turn.at))
        for model_call, following in zip_longest(calls, calls[1:]):
            output, about = model_call.output, {"gen_ai.conversation.id": conversation}
            attributes = about | _model_call(step := next(steps), model_call, output)
            if self.has_content:
                attributes |= _content(model_call, output)
            self._step(turn, step, attributes, inside)
            if model_call.took_s is None:
                continue
            results: list[str | None] = [None] * len(output.calls)
            if self.has_content and following is not None:
                results = results_before(following, len(output.calls))
            for result in results:
                attributes = about | _tool(step := next(steps))
                if self.has_content:
                    attributes |= _tool_content(step, result)
                self._step(turn, step, attributes, inside)
        for span in filter(None, (run, call)):
            # By the conventions a request that is refused is no failure of the server.
            is_refused = span is call and 400 <= (turn.http_status or 0) < 500
            if turn.status is not TurnStatus.ANSWERED and not is_refused:
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
            {
                "http.request.method": "POST",
                "http.route": route,
                "http.response.status_code": turn.http_status,
                "error.type": _error_type(turn),
            },
        )

    def _step(
        self, turn: TracedTurn, step: Step, attributes: Mapping[str, Any], parent: Context
    ) -> None:
        is_tool = step.kind is StepKind.TOOL
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


def _error_type(turn: TracedTurn) -> str | None:
    return None if turn.status is TurnStatus.ANSWERED else turn.error_code or str(turn.status)


def _agent(turn: TracedTurn, calls: Sequence[ModelCall]) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": _provider(calls[0]) if calls else AGENT_PROVIDER,
        "gen_ai.agent.id": turn.instance_id,
        "gen_ai.agent.name": turn.agent_name,
        "gen_ai.request.model": calls[0].model if calls else None,
        "gen_ai.response.id": turn.response_id,
        "chowder.turn.kind": str(turn.kind),
        "chowder.job": turn.job,
        "error.type": _error_type(turn),
    }


def _finish_reason(turn: TracedTurn, calls: Sequence[ModelCall]) -> str:
    """Why the answer ended: as that of its last model call did."""
    if turn.status is not TurnStatus.ANSWERED:
        return "error"
    return (calls[-1].output.finish_reason if calls else None) or "stop"


def _provider(call: ModelCall) -> str:
    return _PROVIDERS.get(call.provider, call.provider)


def _model_call(step: Step, call: ModelCall, output: ModelOutput) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider(call),
        "gen_ai.request.model": step.name,
        "gen_ai.usage.input_tokens": step.input_tokens,
        "gen_ai.usage.output_tokens": step.output_tokens,
        "chowder.cost_usd": step.cost_usd,
        "gen_ai.response.finish_reasons": output.finish_reason and (output.finish_reason,),
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


def _agent_content(turn: TracedTurn, calls: Sequence[ModelCall]) -> dict[str, Any]:
    """What the agent was asked, and what it has answered."""
    input_text, output_text = turn.text, turn.answer
    if calls and not 0 < len(input_text) < TEXT_MAX:
        # The log of turns keeps the beginning of a long text.
        input_text = calls[0].last_message or input_text
    if calls and len(output_text) >= TEXT_MAX:
        output_text = calls[-1].output.text or output_text
    question, answer = _text(input_text), _text(output_text)
    end = {"finish_reason": _finish_reason(turn, calls)}
    return {
        "gen_ai.input.messages": _json([_message("user", question)]),
        "gen_ai.output.messages": _json(
            [_message("assistant", answer) | end] if output_text else None
        ),
        **dict(zip(_VALUES, (question["content"], answer["content"] or None), strict=True)),
    }


def _content(call: ModelCall, output: ModelOutput) -> dict[str, Any]:
    """What the model was asked, from the latest message of a user on, and what it answered.

    What was said before is in the traces of earlier turns.
    """
    parsed = call.request.parse()
    messages: list[dict[str, Any]] = []
    length = 0
    for turn in reversed(parsed.conversation.turns if isinstance(parsed, ParsedRequest) else ()):
        message = _prompt_message(turn)
        length += len(json.dumps(message))
        if messages and length > MAX_CONTENT:
            break
        messages.insert(0, message)
        if isinstance(turn, UserMessage):
            break
    parts = [*([_text(output.text)] if output.text else ()), *map(_call_part, output.calls)]
    answer = _message("assistant", *parts) | {"finish_reason": output.finish_reason or "error"}
    return {
        "gen_ai.input.messages": _json(messages or None),
        "gen_ai.output.messages": _json([answer] if parts else None),
    }


def _prompt_message(turn: PromptTurn) -> dict[str, Any]:
    match turn:
        case UserMessage():
            return _message("user", *map(_text, turn.parts))
        case AssistantText():
            return _message("assistant", _text(turn.text))
        case ToolCall():
            return _message("assistant", _call_part(turn))
        case ToolResult():
            result = _cut(turn.text)
            part = {"type": "tool_call_response", "id": turn.call_id, "response": result}
            return _message("tool", part)


def _message(role: str, *parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": _cut(text)}


def _call_part(call: ToolCall) -> dict[str, Any]:
    arguments = _arguments(call.arguments)
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}


def _arguments(arguments: Mapping[str, Any] | None) -> Any:
    """The arguments of a tool, or the beginning of their JSON if that is long."""
    content = json.dumps(dict(arguments or {}), ensure_ascii=False)
    return _cut(content) if len(content) > MAX_TEXT else redact_values(dict(arguments or {}))


def _tool_content(step: Step, result: str | None) -> dict[str, Any]:
    return {
        "gen_ai.tool.call.arguments": _json(_arguments(step.arguments)),
        "gen_ai.tool.call.result": None if result is None else _cut(result),
    }


def _cut(text: str) -> str:
    """The beginning of a text, without what looks like a secret, also at its end."""
    return redact(text[: 2 * MAX_TEXT])[:MAX_TEXT]


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _ns(at: datetime, after_s: float) -> int:
    return int((at.timestamp() + after_s) * 1e9)
