"""A stand-in for a model provider: the offline model, and streams of a requested length.

Run as `python -m benchmarks.model_stand_in HOST PORT`. A message such as `stream 100 pieces
of 20 bytes every 50 ms` gets that stream, and any other message the offline model's answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import TYPE_CHECKING

import uvloop
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chowder_local.core.domain import ModelProvider
from chowder_local.http.listener import bound_socket, listener
from chowder_local.relay.calls import RelayRequest, local_answer
from chowder_local.relay.offline_model import decide
from chowder_local.relay.wire.wire_format import ParsedRequest
from chowder_local.upstream.sse import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any

    from starlette.requests import Request

_PROMPT = re.compile(r"stream (\d+) pieces of (\d+) bytes every (\d+) ms")


def long_answer_prompt(pieces: int, size_bytes: int, interval_ms: int) -> str:
    """The message that requests such a stream."""
    return f"stream {pieces} pieces of {size_bytes} bytes every {interval_ms} ms"


def requested_stream(body: bytes) -> tuple[int, int, int] | None:
    """The requested stream: pieces, bytes of each, milliseconds between them."""
    # The last two messages, because OpenClaw adds one after the user's message.
    last = json.dumps(json.loads(body)["messages"][-2:])
    requests = _PROMPT.findall(last)
    return (int(requests[-1][0]), int(requests[-1][1]), int(requests[-1][2])) if requests else None


async def messages(request: Request) -> Response:
    """Anthropic's `POST /v1/messages`."""
    body = await request.body()
    if stream := requested_stream(body):
        pieces, size_bytes, interval_ms = stream
        chunks = _long(pieces, size_bytes, interval_ms / 1000)
        return StreamingResponse(chunks, media_type="text/event-stream")
    parsed = RelayRequest(ModelProvider.ANTHROPIC, "POST", "v1/messages", "", (), body).parse()
    if isinstance(parsed, ParsedRequest):
        parsed = parsed.render(decide(parsed.conversation))
    answer = local_answer(parsed)
    return StreamingResponse(
        answer.chunks, status_code=answer.status, media_type=answer.content_type
    )


async def _long(pieces: int, size_bytes: int, interval_s: float) -> AsyncIterator[bytes]:
    yield b"".join(_events(_beginning()))
    text = ("word " * (size_bytes // 5 + 1))[:size_bytes]
    delta = {"type": "text_delta", "text": text}
    piece = b"".join(_events([{"type": "content_block_delta", "index": 0, "delta": delta}]))
    for _ in range(pieces):
        yield piece
        # Also without an interval, to let other tasks run.
        await asyncio.sleep(interval_s)
    yield b"".join(_events(_ending()))


def _events(events: list[dict[str, Any]]) -> Iterator[bytes]:
    for event in events:
        yield encode(json.dumps(event), event["type"])


def _beginning() -> list[dict[str, Any]]:
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]


def _ending() -> list[dict[str, Any]]:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]


def main(host: str, port: int) -> None:
    """Serves until the process is ended."""
    app = Starlette(routes=[Route("/anthropic/v1/messages", messages, methods=["POST"])])
    with (
        bound_socket(host, port) as bound,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(listener(app).serve(sockets=[bound]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
