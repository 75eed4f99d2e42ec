"""Answers as OpenClaw's gateway writes them, to be made whole."""

from typing import Any

NOW_S = 1_800_000_000
MODEL = "claude-sonnet-4-20250514"
ASKED = {"model": MODEL, "input": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}

# As the gateway writes them: no annotations, no sequence numbers, hardly a member too many.
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


def answered(**members: Any) -> dict[str, Any]:
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": NOW_S - 5,
        "status": "completed",
        "model": "openclaw",
        "output": [MESSAGE],
        "usage": USAGE,
    }
    return whole | members


ANSWERS = {
    "plain": answered(),
    "tool call": answered(output=[MESSAGE | {"phase": "commentary"}, CALL]),
    "cut short": answered(
        status="incomplete",
        output=[MESSAGE | {"status": "incomplete"}],
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "failed": answered(
        status="failed",
        output=[],
        usage=NO_USAGE,
        error={"code": "api_error", "message": "upstream provider error"},
    ),
    "under way": answered(status="in_progress", output=[], usage=NO_USAGE),
    "without usage": answered(usage=None),
}
