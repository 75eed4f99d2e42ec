"""Responses as OpenClaw's gateway sends them, for tests of their normalization."""

from typing import Any

NOW_S = 1_800_000_000
MODEL = "claude-sonnet-4-20250514"
REQUEST = {"model": MODEL, "input": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}

# The gateway sends no annotations, no sequence numbers and few optional members.
USAGE = {
    "input_tokens": 12003,
    "output_tokens": 42,
    "total_tokens": 12045,
    "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 7},
    "output_tokens_details": {"reasoning_tokens": 3},
}
NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello there."}],
    "phase": "final_answer",
    "status": "completed",
}
CALL = {
    "type": "function_call",
    "id": "call_9",
    "call_id": "toolu_1",
    "name": "get_weather",
    "arguments": '{"city":"Oslo"}',
}


def gateway_response(**members: Any) -> dict[str, Any]:
    defaults = {
        "id": "resp_1",
        "object": "response",
        "created_at": NOW_S - 5,
        "status": "completed",
        "model": "openclaw",
        "output": [MESSAGE],
        "usage": USAGE,
    }
    return defaults | members


ANSWERS = {
    "plain": gateway_response(),
    "tool call": gateway_response(output=[MESSAGE | {"phase": "commentary"}, CALL]),
    "cut short": gateway_response(
        status="incomplete",
        output=[MESSAGE | {"status": "incomplete"}],
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "failed": gateway_response(
        status="failed",
        output=[],
        usage=NO_USAGE,
        error={"code": "api_error", "message": "upstream provider error"},
    ),
    "under way": gateway_response(status="in_progress", output=[], usage=NO_USAGE),
    "without usage": gateway_response(usage=None),
}
