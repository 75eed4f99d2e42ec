"""A stand-in for the model providers: an independent mock behind something that records."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import uvicorn
from llmock.chaos import ChaosSettings
from llmock.main import create_app
from llmock.simulation import MockResponseSettings

from tests.e2e.serving import free_port
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Behaviour = Callable[[Any, Any], Awaitable[None]]

STOP_TIMEOUT_S = 10


@dataclass(frozen=True)
class Recorded:
    """A request as it arrived, in text."""

    path: str
    headers: dict[str, str]
    body: str

    def __contains__(self, words: str) -> bool:
        return words in f"{self.path}\n{self.headers}\n{self.body}"


class StandIn:
    """Serves all three providers on one port, from a thread of its own."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self._mock = create_app(
            chaos=ChaosSettings(),
            responses=MockResponseSettings(response_style="static", tool_mode="off"),
        )
        self._behaviour: Behaviour | None = None
        self._port = free_port()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def settings(self) -> dict[str, str]:
        """What leads a server's relay here."""
        url = f"http://127.0.0.1:{self._port}"
        return {
            "CHOWDER_ANTHROPIC_BASE_URL": f"{url}/anthropic",
            "CHOWDER_OPENAI_BASE_URL": f"{url}/v1",
            "CHOWDER_GEMINI_BASE_URL": f"{url}/gemini/v1beta",
            "CHOWDER_PROVIDERS": f"lab={url}/v1",
            "OLLAMA_HOST": url,
        }

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @contextmanager
    def behaving(self, behaviour: Behaviour) -> Iterator[None]:
        """Answers everything so, instead of as the mock does."""
        self._behaviour = behaviour
        try:
            yield
        finally:
            self._behaviour = None

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody listens on the port: a connection is refused."""
        self._leave()
        try:
            yield
        finally:
            self._listen()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = f"{scope['path']}?{scope['query_string'].decode()}"
        self.requests.append(Recorded(path, headers, body.decode()))
        if self._behaviour is not None:
            await self._behaviour(receive, send)
            return
        is_read = False

        async def again() -> Any:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._mock(scope, again, send)

    def _listen(self) -> None:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", self._port))
        config = uvicorn.Config(
            self, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = server = uvicorn.Server(config)

        def serve() -> None:
            with bound:
                server.run(sockets=[bound])

        self._thread = threading.Thread(target=serve, name="stand-in")
        self._thread.start()
        eventually(lambda: server.started, "the stand-in listens")

    def _leave(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive()


def refusal(status: int, words: str, **headers: str) -> Behaviour:
    """A provider that answers with an error."""
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    pairs.append((b"content-type", b"application/json"))
    body = json.dumps({"error": {"message": words}}).encode()

    async def refuse(_: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    return refuse


def listing(*models: str) -> Behaviour:
    """What Ollama's `/v1/models` says, by its documentation (api/openai-compatibility)."""
    listed = [{"id": model, "object": "model", "owned_by": "library"} for model in models]
    body = json.dumps({"object": "list", "data": listed}).encode()

    async def tell(_: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return tell


class Slow:
    """Anthropic's stream, halted after its first words until `go_on`, or until somebody leaves."""

    WORDS = "Once upon a time"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.left = threading.Event()
        self._gone_on: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, receive: Any, send: Any) -> None:
        self._loop, self._gone_on = asyncio.get_running_loop(), asyncio.Event()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_events(send, *_beginning(self.WORDS))
        self.begun.set()
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(_disconnected(receive))
            going_on = group.create_task(self._gone_on.wait())
            await asyncio.wait([leaving, going_on], return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                self.left.set()
            leaving.cancel()
            going_on.cancel()
        if not self.left.is_set():
            await _send_events(send, *_ending())
            await send({"type": "http.response.body", "body": b""})

    def go_on(self) -> None:
        assert self._loop is not None
        assert self._gone_on is not None
        self._loop.call_soon_threadsafe(self._gone_on.set)


async def break_off(_: Any, send: Any) -> None:
    """A stream that ends after its first words, without its end."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send_events(send, *_beginning("Once upon"))


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_events(send: Any, *events: dict[str, Any]) -> None:
    for event in events:
        text = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _beginning(words: str) -> list[dict[str, Any]]:
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    text = {"type": "text_delta", "text": words}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": text},
    ]


def _ending() -> list[dict[str, Any]]:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
