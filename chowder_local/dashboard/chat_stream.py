"""Messages that were typed on a page, and their answers as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio
from starlette.responses import Response

from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.rendering import (
    RENDERED_MAX_CHARS,
    STREAM_HEADERS,
    STREAM_MEDIA_TYPE,
    render_markdown,
)
from chowder_local.http.streams import ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from chowder_local.core.domain import Instance
    from chowder_local.http.services import Services
    from chowder_local.instances.conversations.service import Conversations
    from chowder_local.relay.call_log import CallLog

log = logging.getLogger(__name__)

DONE = b"event: done\ndata:\n\n"
WAITING_MAX = 100
"""Pages ask for an answer as soon as they have sent a message; older messages are forgotten."""


@dataclass(frozen=True)
class ChatStream:
    """A message whose page has not asked for the answer yet; `session` is None for the main one."""

    instance: Instance
    session: str | None
    session_key: str
    message: dict[str, Any]


@dataclass(frozen=True)
class ChatEvent:
    """A piece of an answer, a call of the tool `tool`, all of the answer as HTML, or its failure.

    `text` is the piece, the call's arguments, the HTML, or the reason.
    """

    name: Literal["piece", "tool", "whole", "failed"]
    text: str
    tool: str = ""


class ChatStreams:
    """The messages that wait. Each is sent once: a page that asks again gets nothing."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, ChatStream] = OrderedDict()

    def add(self, chat_stream: ChatStream) -> str:
        """The token that takes it."""
        token = secrets.token_urlsafe(12)
        self._waiting[token] = chat_stream
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        return token

    def take(self, token: str) -> ChatStream | None:
        return self._waiting.pop(token, None)


class Answer(Response):
    """Sends the message, and streams what comes of it, in order.

    When the client disconnects, the agent's run is cancelled.
    """

    def __init__(
        self, chat_stream: ChatStream, known: Services, encode: Callable[[ChatEvent], bytes]
    ) -> None:
        super().__init__()
        self._chat_stream = chat_stream
        self._services = known
        self._encode = encode
        self._events: asyncio.Queue[ChatEvent | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = ClosingStream(
            self._encoded(),
            shutdown=self._services.shutdown,
            media_type=STREAM_MEDIA_TYPE,
            headers=STREAM_HEADERS,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(
                _read_tool_calls, self._chat_stream, self._services.exchanges, self._events
            )
            group.start_soon(
                _read_answer, self._chat_stream, self._services.conversations, self._events
            )
            await stream(scope, receive, send)
            group.cancel_scope.cancel()

    async def _encoded(self) -> AsyncGenerator[bytes, None]:
        # The stream begins at once, so that failures are events of it, and a shutdown ends it.
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
            events.put_nowait(event)
    except ChowderError as failure:
        events.put_nowait(ChatEvent("failed", str(failure)))
    except Exception:
        # Raised, it would break off the page's stream without a reason.
        log.exception("an answer failed unexpectedly")
        events.put_nowait(ChatEvent("failed", "Internal error; the server's log says more."))
    finally:
        events.put_nowait(None)


async def _read_tool_calls(
    chat_stream: ChatStream, exchanges: CallLog, events: asyncio.Queue[ChatEvent | None]
) -> None:
    """The tools that the agent's model calls from now on, each when its model call has ended."""
    known = {each.id for each in exchanges.of_instance(chat_stream.instance.id)}
    with exchanges.watching() as news:
        while True:
            await news.wait()
            news.clear()
            for each in reversed(list(exchanges.of_instance(chat_stream.instance.id))):
                if each.id in known or each.outcome is None:
                    continue
                known.add(each.id)
                if each.session_key == chat_stream.session_key:
                    for call in each.output.calls:
                        events.put_nowait(ChatEvent("tool", call.arguments_json, call.name))


async def _events_of(stream: AsyncIterator[bytes]) -> AsyncIterator[ChatEvent]:
    """The text in a Responses stream, and its failure."""
    # Each item has whole events.
    async for ready in stream:
        for event in _parse(ready):
            kind = event.get("type")
            if kind in {"response.output_text.delta", "response.refusal.delta"}:
                yield ChatEvent("piece", event["delta"])
            elif kind == "error":
                # The failed response that follows says the same.
                yield ChatEvent("failed", event["message"])


def _parse(ready: bytes) -> Iterator[dict[str, Any]]:
    for line in ready.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
