"""Messages typed on a page, and their answers as event streams."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio
from cachetools import LRUCache
from starlette.responses import Response

from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.rendering import (
    RENDERED_MAX_CHARS,
    STREAM_HEADERS,
    STREAM_MEDIA_TYPE,
    render_markdown,
)
from chowder_local.http.responses import ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from chowder_local.core.domain import Instance
    from chowder_local.instances.conversations.service import Conversations
    from chowder_local.relay.call_log import CallLog
    from chowder_local.services import Services
log = logging.getLogger(__name__)

DONE = b"event: done\ndata:\n\n"
WAITING_MAX = 100
PENDING_EVENTS = 16
"""The number of unsent messages kept; a page opens its stream at once, so older ones are stale."""


@dataclass(frozen=True)
class ChatStream:
    """A message whose page has not opened its stream yet; `session` is None for the main one."""

    instance: Instance
    session: str | None
    session_key: str
    message: dict[str, Any]


@dataclass(frozen=True)
class ChatEvent:
    """A piece of an answer, a call of the tool `tool`, the whole answer as HTML, or its error.

    `text` is the piece, the call's arguments, the HTML, or the error message.
    """

    name: Literal["piece", "tool", "whole", "failed"]
    text: str
    tool: str = ""


class ChatStreams:
    """The messages that no stream has taken yet. Each is sent to the agent only once."""

    def __init__(self) -> None:
        self._waiting: LRUCache[str, ChatStream] = LRUCache(WAITING_MAX)

    def add(self, chat_stream: ChatStream) -> str:
        """Keeps a message, and returns the token that takes it."""
        token = secrets.token_urlsafe(12)
        self._waiting[token] = chat_stream
        return token

    def take(self, token: str) -> ChatStream | None:
        return self._waiting.pop(token, None)


class ChatAnswer(Response):
    """Sends the message to the agent, and streams tool calls and answer in order.

    If the client disconnects, the agent's run is cancelled.
    """

    def __init__(
        self, chat_stream: ChatStream, services: Services, encode: Callable[[ChatEvent], bytes]
    ) -> None:
        super().__init__()
        self._chat_stream = chat_stream
        self._services = services
        self._encode = encode
        # Bounded, because an answer may come faster than a browser takes it, and without an end.
        self._events: asyncio.Queue[ChatEvent | None] = asyncio.Queue(PENDING_EVENTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = ClosingStream(
            self._encoded(),
            shutdown=self._services.shutdown,
            media_type=STREAM_MEDIA_TYPE,
            headers=STREAM_HEADERS,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(
                _read_tool_calls, self._chat_stream, self._services.call_log, self._events
            )
            group.start_soon(
                _read_answer, self._chat_stream, self._services.conversations, self._events
            )
            await stream(scope, receive, send)
            group.cancel_scope.cancel()

    async def _encoded(self) -> AsyncGenerator[bytes, None]:
        # Begins the stream at once, so that errors become events and a shutdown ends it.
        yield b""
        answer = ""
        while (event := await self._events.get()) is not None:
            if event.name == "piece" and len(answer) <= RENDERED_MAX_CHARS:
                answer += event.text
            yield self._encode(event)
        html = await asyncio.to_thread(render_markdown, answer)
        if answer and html is not None:
            yield self._encode(ChatEvent("whole", html))
        yield DONE


async def _read_answer(
    chat_stream: ChatStream, conversations: Conversations, events: asyncio.Queue[ChatEvent | None]
) -> None:
    answer = conversations.stream(chat_stream.instance, chat_stream.message, chat_stream.session)
    try:
        async for event in _events_of(answer):
            await events.put(event)
    except ChowderError as error:
        await events.put(ChatEvent("failed", str(error)))
    except Exception:
        # If raised, it would break off the page's stream without a reason.
        log.exception("an answer failed unexpectedly")
        await events.put(ChatEvent("failed", "Internal error; the server's log has the details."))
    await events.put(None)


async def _read_tool_calls(
    chat_stream: ChatStream, call_log: CallLog, events: asyncio.Queue[ChatEvent | None]
) -> None:
    """Adds the tools that the agent's model calls from now on, when each model call ends."""
    seen = {each.id for each in call_log.of_instance(chat_stream.instance.id)}
    with call_log.changes.watching() as news:
        while True:
            await news.wait()
            news.clear()
            for each in reversed(list(call_log.of_instance(chat_stream.instance.id))):
                if each.id in seen or each.outcome is None:
                    continue
                seen.add(each.id)
                if each.session_key == chat_stream.session_key:
                    for call in each.output.calls:
                        await events.put(ChatEvent("tool", call.arguments_json, call.name))


async def _events_of(stream: AsyncIterator[bytes]) -> AsyncIterator[ChatEvent]:
    """The text and the error in a stream of OpenAI's Responses format."""
    # Each item consists of whole events.
    async for data in stream:
        for event in _parse(data):
            kind = event.get("type")
            if kind in {"response.output_text.delta", "response.refusal.delta"}:
                yield ChatEvent("piece", event.get("delta", ""))
            elif kind == "error":
                # The `response.failed` that follows repeats this error.
                yield ChatEvent("failed", event["message"])


def _parse(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
