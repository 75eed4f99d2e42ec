"""Messages that were typed on a page, and their answers as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response

from chowder_local.core.errors import ChowderError
from chowder_local.dashboard.markdown import RENDERED_MAX, rendered
from chowder_local.http.streams import ClosingStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from chowder_local.core.domain import Instance
    from chowder_local.http.services import Services
    from chowder_local.instances.conversations.service import Conversations
    from chowder_local.relay.call_log import CallLog

    Encode = Callable[["Heard"], bytes]

log = logging.getLogger(__name__)

DONE = b"event: done\ndata:\n\n"
WAITING_MAX = 100
"""Pages ask for an answer as soon as a message is there; what nobody asks for is forgotten."""


@dataclass(frozen=True)
class ChatStream:
    """A message that waits for its page to listen; a session without a name is the main one."""

    instance: Instance
    session: str | None
    session_key: str
    asked: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """Some words of the answer."""

    text: str


@dataclass(frozen=True)
class Whole:
    """All of the answer as HTML, once nothing more comes."""

    html: str


@dataclass(frozen=True)
class ToolCalled:
    """The agent's model calls one of its tools."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Failed:
    """Why there is no answer, or no more of it."""

    words: str


Heard = Piece | Whole | ToolCalled | Failed


class ChatStreams:
    """The messages that wait. Each is sent once: a page that asks again gets nothing."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, ChatStream] = OrderedDict()

    def add(self, chat_stream: ChatStream) -> str:
        """Keeps it, under a name that nobody guesses."""
        token = secrets.token_urlsafe(12)
        self._waiting[token] = chat_stream
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        return token

    def take(self, token: str) -> ChatStream | None:
        """The message, if it waits there."""
        return self._waiting.pop(token, None)


class Answer(Response):
    """What comes of a message, in its order, until it is over or the page is left.

    Then the agent's run ends, too.
    """

    def __init__(
        self, chat_stream: ChatStream, known: Services, encode: Encode, **options: Any
    ) -> None:
        super().__init__()
        self._chat_stream = chat_stream
        self._known = known
        self._encode = encode
        self._options = options
        self._news: asyncio.Queue[Heard | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all of it."""
        told = ClosingStream(self._told(), shutdown=self._known.shutdown, **self._options)
        async with anyio.create_task_group() as group:
            group.start_soon(_tools, self._chat_stream, self._known.exchanges, self._news)
            group.start_soon(_words, self._chat_stream, self._known.conversations, self._news)
            await told(scope, receive, send)
            group.cancel_scope.cancel()

    async def _told(self) -> AsyncGenerator[bytes, None]:
        # The stream begins at once: what fails is told in it, and a server that stops ends it.
        yield b""
        answer = ""
        while (each := await self._news.get()) is not None:
            if isinstance(each, Piece) and len(answer) <= RENDERED_MAX:
                answer += each.text
            yield self._encode(each)
        html = await asyncio.to_thread(rendered, answer)
        if answer and html is not None:
            yield self._encode(Whole(html))
        yield DONE


async def _words(
    chat_stream: ChatStream, conversations: Conversations, news: asyncio.Queue[Heard | None]
) -> None:
    try:
        async for each in _read(
            conversations.stream(chat_stream.instance, chat_stream.asked, chat_stream.session)
        ):
            news.put_nowait(each)
    except ChowderError as failure:
        news.put_nowait(Failed(str(failure)))
    except Exception:
        # Raised, it would only break the page's stream off, without a word of why.
        log.exception("an answer failed unexpectedly")
        news.put_nowait(Failed("Internal error; the server's log says more."))
    finally:
        news.put_nowait(None)


async def _tools(
    chat_stream: ChatStream, exchanges: CallLog, news: asyncio.Queue[Heard | None]
) -> None:
    """The tools that the agent's model has called since, each as soon as its call is whole."""
    told = {each.id for each in exchanges.of_instance(chat_stream.instance.id)}
    with exchanges.watching() as something:
        while True:
            await something.wait()
            something.clear()
            for each in reversed(list(exchanges.of_instance(chat_stream.instance.id))):
                if each.id in told or each.outcome is None:
                    continue
                told.add(each.id)
                if each.session_key == chat_stream.session_key:
                    for call in each.output.calls:
                        news.put_nowait(ToolCalled(call.name, call.arguments_json))


async def _read(stream: AsyncIterator[bytes]) -> AsyncIterator[Heard]:
    """The words in a Responses stream, and its failure."""
    async for ready in stream:
        # What comes at a time are whole events.
        for event in _events(ready):
            kind = event.get("type")
            if kind in {"response.output_text.delta", "response.refusal.delta"}:
                yield Piece(event["delta"])
            elif kind == "error":
                # The failed response that follows says the same.
                yield Failed(event["message"])


def _events(ready: bytes) -> Iterator[dict[str, Any]]:
    for line in ready.split(b"\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
