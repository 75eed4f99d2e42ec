"""What an agent did in a turn, from its model calls, and the items for its tools (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from chowder_local.relay.metering import Meter
from chowder_local.relay.prompt_format import client_name
from chowder_local.relay.wire.conversation import ToolCall, ToolResult
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from chowder_local.relay.call_log import ModelCall

SERVER_LABEL = "openclaw"


def tool_call_items(calls: Sequence[ModelCall]) -> Iterator[dict[str, Any]]:
    """Items of type `mcp_call` for the tools that the agent ran, in the order of its model calls.

    `calls` are the model calls of the turn. It is the Responses API's type for tools that run out
    of the client's sight: `arguments` is JSON, and `output` the tool's result, or None if the agent
    did not give it to the model.
    """
    if len(calls) < 2:
        return
    # The last call asks for no tool of the agent: the turn ends with it.
    tools = [(call.id, tool) for call in calls[:-1] for tool in call.output.calls]
    results = results_before(calls[-1], len(tools))
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


def results_before(call: ModelCall, count: int) -> list[str | None]:
    """The results of the latest tool calls before a model call; None for one that has none.

    By their place, because OpenClaw may change a call's id before it sends it back.
    """
    parsed = call.request.parse()
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
    """A model call, or a tool that the agent ran because an answer of the model asked for it.

    A tool's time is that between this answer and the next model call; tools that one answer asks
    for share it.
    """

    kind: Annotated[StepKind, Field(examples=["model_call"])]
    name: Annotated[str, Field(description="The model's id or the tool's name.", examples=["exec"])]
    model_call_id: Annotated[
        str, Field(description="The model call, or the one that asked.", examples=["ex-1"])
    ]
    after_s: Annotated[float, Field(description="Seconds since the message.", examples=[0.12])]
    took_s: Annotated[
        float | None, Field(description="Null while it is in progress.", examples=[0.2])
    ]
    outcome: Annotated[
        str | None, Field(description="Of a model call, as in the metrics.", examples=["offline"])
    ]
    error: Annotated[
        str | None, Field(description="The error that the agent got.", examples=[None])
    ]
    input_tokens: Annotated[int | None, Field(examples=[16_721])]
    output_tokens: Annotated[int | None, Field(examples=[9])]
    cost_usd: Annotated[
        float | None,
        Field(description="At list price; null if the price is unknown.", examples=[0.0]),
    ]
    call_id: Annotated[str | None, Field(description="A tool call's id.", examples=["toolu_1"])]
    arguments: Annotated[dict[str, Any] | None, Field(examples=[{"command": "date"}])]


def steps_of(calls: Sequence[ModelCall], began_at: datetime) -> list[Step]:
    """The steps of a turn that began then, in their order; `calls` are its model calls."""
    pairs = zip_longest(calls, calls[1:])
    return [step for call, following in pairs for step in _steps(call, following, began_at)]


def _steps(call: ModelCall, following: ModelCall | None, began_at: datetime) -> Iterator[Step]:
    begun_s = (call.at - began_at).total_seconds()
    meter = Meter(call.request.wire)
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
        call_id=None,
        arguments=None,
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
            outcome=None,
            error=None,
            input_tokens=None,
            output_tokens=None,
            cost_usd=None,
            call_id=tool.id,
            arguments=dict(tool.arguments),
        )
