"""Conversations as OpenClaw's own protocol returns them: those of running agents only.

The plain way beside `transcripts.mjs`, with the same requests and answers. OpenClaw prepares these
messages for display, and leaves out those that were taken back or sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chowder_local.core import untrusted_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chowder_local.core.domain import SandboxId
    from chowder_local.openclaw.sandbox_exec import Control
SESSIONS_MAX = 10_000
MESSAGES_MAX = 1000
"""OpenClaw returns no more at once."""


@dataclass(eq=False, repr=False)
class ChatHistory:
    """Reads with `sessions.list` and `chat.history`."""

    control: Control

    async def answer(self, sandbox_id: SandboxId, request: Mapping[str, Any]) -> dict[str, Any]:
        """The payload for a request to `transcripts.mjs`.

        Raises RpcRefused, GatewayUnavailable, EngineUnavailable, SandboxMissing, SandboxPaused.
        """
        answer: dict[str, Any] = {}
        if request["op"] != "read":
            answer["sessions"] = await self._sessions(sandbox_id)
        if request["op"] != "list":
            answer |= await self._page(sandbox_id, request)
        return answer

    async def _sessions(self, sandbox_id: SandboxId) -> list[dict[str, Any]]:
        answer = await self.control.call(sandbox_id, "sessions.list", {"limit": SESSIONS_MAX})
        return [
            {
                "key": each.get("key"),
                "created_at": each.get("createdAt"),
                "updated_at": each.get("updatedAt"),
                "channel": each.get("channel"),
            }
            for each in untrusted_json.objects_of(answer.get("sessions"))
        ]

    async def _page(self, sandbox_id: SandboxId, request: Mapping[str, Any]) -> dict[str, Any]:
        params = {"sessionKey": request["key"], "limit": min(request["limit"], MESSAGES_MAX)}
        answer = await self.control.call(sandbox_id, "chat.history", {**params, "limit": 1})
        total = _count(answer.get("totalMessages"))
        # Positions are counted from the first message, offsets from the last one.
        offset = max(0, total - request["before"])
        if total:
            answer = await self.control.call(
                sandbox_id, "chat.history", {**params, "offset": offset}
            )
        messages = untrusted_json.objects_of(answer.get("messages"))
        return {
            "is_known": total > 0,
            "messages": [_message(each, request["textMax"]) for each in messages],
            "has_more": bool(answer.get("hasMore")),
        }


def _message(row: Mapping[str, Any], text_max: int) -> dict[str, Any]:
    metadata = untrusted_json.object_of(row.get("__openclaw"))
    content = row.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    usage = row.get("usage")
    return {
        "position": _count(metadata.get("seq")) - 1,
        "id": metadata.get("id"),
        "at": row.get("timestamp"),
        "role": row.get("role"),
        "parts": [_part(each, text_max) for each in untrusted_json.objects_of(blocks)],
        "call_id": row.get("toolCallId"),
        "name": row.get("toolName"),
        "is_error": row.get("isError"),
        "is_pending": untrusted_json.object_of(row.get("details")).get("status") == "pending",
        "model": row.get("model"),
        "usage": _usage(usage) if isinstance(usage, dict) else None,
        "run_id": metadata.get("runId"),
        "error": row.get("errorMessage"),
    }


def _part(block: Mapping[str, Any], text_max: int) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "toolCall":
        return {
            "type": "call",
            "id": block.get("id"),
            "name": block.get("name"),
            "arguments": block.get("arguments"),
        }
    if kind == "text":
        text = untrusted_json.text_of(block.get("text"))
        is_cut = len(text) > text_max
        return {"type": "text", "text": text[:text_max], "is_cut": is_cut, "length": len(text)}
    return {"type": "image" if kind == "image" else "other"}


def _usage(usage: Mapping[str, Any]) -> dict[str, int]:
    names = {"input": "input", "output": "output", "cache_read": "cacheRead"}
    names |= {"cache_write": "cacheWrite"}
    return {ours: _count(usage.get(theirs)) for ours, theirs in names.items()}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
