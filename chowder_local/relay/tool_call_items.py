"""The tools that an agent ran in a turn, as items of its answer (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chowder_local.relay.wire.conversation import ToolCall, ToolResult
from chowder_local.relay.wire.wire_format import ParsedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
