"""What an agent did in a turn, from its model calls (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from chowder_local.relay.metering import Meter
from chowder_local.relay.prompt_format import client_name
from chowder_local.relay.wire.conversation import ToolCall, ToolResult
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from chowder_local.relay.call_log import LoggedCall

SERVER_LABEL = "openclaw"


def tool_call_items(calls: Sequence[LoggedCall]) -> Iterator[dict[str, Any]]:
    """Items of type `mcp_call` for the tools that the agent ran, in the order of its model calls.

    `calls` are the model calls of the turn. It is the Responses API's type for tools that run out
    of the client's sight: `arguments` is JSON, and `output` the tool's result, or None if the agent
    did not give it to the model.
    """
    if len(calls) < 2:
        return
    # The last call asks for no tool of the agent: the turn ends with it.
    tools = [(call.id, tool) for call in calls[:-1] for tool in call.output.calls]
    results = _results(calls[-1], len(tools))
    for (call_id, tool), result in zip(tools, results, strict=True):
        yield {
            "type": "mcp_call",
            "id": f"mcp_{call_id}_{tool.id}",
            "status": "completed",
            "server_label": SERVER_LABEL,
            "name": tool.name,
            "arguments": tool.arguments_json,
            "output": result,
            "error": None,
            "approval_request_id": None,
        }


def _results(call: LoggedCall, count: int) -> list[str | None]:
    """The results of the latest tool calls before a model call; None for one that has none.

    By their place, because OpenClaw may change a call's id before it sends it back.
    """
    parsed = call.call.parse()
    turns = parsed.conversation.turns if isinstance(parsed, ParsedRequest) else ()
    results = {each.call_id: each.text for each in turns if isinstance(each, ToolResult)}
    found = [results.get(each.id) for each in turns if isinstance(each, ToolCall)]
    return [*[None] * count, *found][len(found) :]


class StepKind(StrEnum):
    """What a step of a turn is."""

    MODEL = "model_call"
    TOOL = "tool"


@dataclass(frozen=True)
class Step:
    """A model call, or a tool that the agent ran for one; `after_s` counts from the turn's start.

    A tool runs from the end of the model call that asked for it to the beginning of the next one.
    Tools that one answer asks for share that time. `took_s` is None while the step is in progress,
    or if nothing tells its end.
    """

    kind: StepKind
    name: str
    exchange_id: str
    after_s: float
    took_s: float | None
    outcome: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    call_id: str | None = None
    arguments: Mapping[str, Any] | None = None


def steps_of(calls: Sequence[LoggedCall], began_at: datetime) -> list[Step]:
    """The steps of a turn that began then, in their order; `calls` are its model calls."""
    pairs = zip_longest(calls, calls[1:])
    return [step for call, following in pairs for step in _steps(call, following, began_at)]


def _steps(call: LoggedCall, following: LoggedCall | None, began_at: datetime) -> Iterator[Step]:
    begun_s = (call.at - began_at).total_seconds()
    meter = Meter(call.call.wire)
    meter.feed(call.answer)
    usage = meter.usage
    yield Step(
        StepKind.MODEL,
        call.model or call.provider,
        call.id,
        begun_s,
        call.took_s,
        call.outcome,
        call.error,
        None if usage is None else usage.input_tokens,
        None if usage is None else usage.output_tokens,
        None if usage is None else call.cost_usd(usage),
    )
    if call.took_s is None:
        return
    ended_s = begun_s + call.took_s
    next_s = None if following is None else (following.at - began_at).total_seconds()
    for tool in call.output.calls:
        took_s = None if next_s is None else max(next_s - ended_s, 0.0)
        yield Step(
            StepKind.TOOL,
            client_name(tool.name),
            call.id,
            ended_s,
            took_s,
            call_id=tool.id,
            arguments=tool.arguments,
        )
