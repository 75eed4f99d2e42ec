"""A gateway that answers as OpenClaw's does, or as a test says."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chowder_local.core.domain import SandboxState
from chowder_local.openclaw.gateway import CONTROL_PATH, DIVERSION_PATH, RPC_PATH
from tests.scripted.answers import MESSAGE
from tests.scripted.serving import open_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from chowder_local.core.domain import SandboxId
    from tests.scripted.serving import Server

    Handler = Callable[["ReceivedMessage", Receive, Send], Awaitable[None]]
    RpcAnswer = tuple[int, dict[str, Any]]

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_800_000_000,
    "status": "completed",
    "model": "openclaw",
    "output": [MESSAGE],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}
STARTED = RESPONSE | {"status": "in_progress", "output": []}
DELTA = {
    "type": "response.output_text.delta",
    "item_id": "msg_1",
    "output_index": 0,
    "content_index": 0,
    "delta": "Hello there.",
}

HAVE_PROCESS = {SandboxState.RUNNING, SandboxState.PAUSED}
SUSPENDED = "Gateway is temporarily unavailable while suspending or restarting"


@dataclass(frozen=True)
class ReceivedMessage:
    """A message that the gateway received."""

    headers: dict[str, str]
    body: dict[str, Any]


HOOKS = "/hooks/"


@dataclass
class ScriptedGateway:
    """What gateways answer, and what they were sent: the ASGI application of all of them."""

    is_started: bool = True
    uptime_ms: int = 0
    busy_rounds: int = 0
    """How many suspend requests find the turn still running."""
    requires_restart: bool = False
    rpc_answers: dict[str, RpcAnswer | list[RpcAnswer]] = field(default_factory=dict)
    """Replies by method; of a list, one for each call, and the last for all further calls."""
    unanswered: list[str] = field(default_factory=list)
    """The methods of control calls that get no answer, each once; they are noted."""
    handler: Handler | None = None
    """Answers messages; None answers with `friendly`."""
    messages: list[ReceivedMessage] = field(default_factory=list)
    rpc_calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    rpc_paths: list[str] = field(default_factory=list)
    """Where each of them came to."""
    suspended: set[str] = field(default_factory=set)
    """The addresses of the gateways that are suspended."""
    refusals: int = 0
    """How many messages and control calls came to a suspended one."""
    probes: int = 0
    clocks: list[str] = field(default_factory=list)
    """The clocks that were set, as their header has them."""
    has_clock: bool = True
    """Whether the image has a clock."""
    has_client: bool = True
    """Whether the image has a client of the gateway."""
    diverts: bool = True
    """Whether the image has the local messenger of every channel."""
    history_status: int = 404
    on_history: Callable[[], object] = lambda: None
    """Called when a client requests a conversation; the gateway has none."""
    has_left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the sender of a message disconnects before the response ends."""

    def called(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all control calls of a method."""
        return [params for each, params in self.rpc_calls if each == method]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, address = await _body(receive), address_at(scope["server"][1])
        is_suspended = address in self.suspended
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] == "/startupz":
            self.probes += 1
            clock = headers.get("x-chowder-clock", "?")
            if clock != "?":
                self.clocks.append(clock)
            takes_turns = self.is_started and not is_suspended
            more = {"x-chowder-clock": "?"} if self.has_clock else {}
            await answer(send, 200 if takes_turns else 503, {"uptimeMs": self.uptime_ms}, **more)
            return
        if scope["path"].startswith(DIVERSION_PATH):
            await begin(send, 204 if self.diverts else 404, "text/plain")
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"].startswith("/sessions/"):
            self.on_history()
            await answer(send, self.history_status, {"ok": False})
            return
        if scope["method"] == "GET":
            await answer(send, 404, {"error": "Not Found"})
            return
        if scope["path"] == CONTROL_PATH and not self.has_client:
            await answer(send, 404, {"error": "Not Found"})
            return
        content = json.loads(body)
        if scope["path"] in {RPC_PATH, CONTROL_PATH}:
            self.rpc_paths.append(scope["path"])
            await self._answer_rpc(address, content, receive, send)
            return
        if scope["path"].startswith(HOOKS):
            hooks = self._hooks()
            if headers.get("authorization") != f"Bearer {hooks.get('token')}":
                await answer(send, 401 if hooks else 404, {"error": "Unauthorized"})
                return
            if not isinstance(content, dict):
                await answer(send, 400, {"ok": False, "error": "invalid body"})
                return
        if is_suspended:
            self.refusals += 1
            await answer(
                send, 503, {"error": {"message": SUSPENDED, "code": "gateway_unavailable"}}
            )
            return
        message = ReceivedMessage(headers, content)
        self.messages.append(message)
        await (self.handler or friendly)(message, self._receiver(receive), send)

    async def _answer_rpc(
        self, address: str, content: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        method = content["method"]
        replied = self._rpc(address, method, content["params"])
        if method in self.unanswered:
            self.unanswered.remove(method)
            # Until the client goes away.
            await receive()
        else:
            await answer(send, *replied)

    def _hooks(self) -> dict[str, Any]:
        """What the latest change of the configuration says about hooks."""
        patches = [json.loads(each["raw"]) for each in self.called("config.patch")]
        found: dict[str, Any] = next(
            (each["hooks"] for each in reversed(patches) if "hooks" in each), {}
        )
        return found

    def _receiver(self, receive: Receive) -> Receive:
        async def receive_and_note() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.has_left.set()
            return message

        return receive_and_note

    def _rpc(self, address: str, method: str, params: dict[str, Any]) -> RpcAnswer:
        self.rpc_calls.append((method, params))
        if address in self.suspended and not method.startswith("gateway.suspend."):
            self.refusals += 1
            return refused(f"{method} unavailable during gateway suspension", 503)
        if method in self.rpc_answers:
            answers = self.rpc_answers[method]
            if isinstance(answers, tuple):
                return answers
            return answers.pop(0) if len(answers) > 1 else answers[0]
        if method == "config.get":
            return ok({"hash": "hmac-sha256:v1:abc"})
        if method == "config.patch":
            stats = {"requiresRestart": self.requires_restart}
            return ok({"sentinel": {"persisted": True, "payload": {"stats": stats}}})
        if method == "gateway.suspend.resume":
            self.suspended.discard(address)
            return ok({"resumed": True, "status": "running"})
        if not method.startswith("gateway.suspend."):
            return ok({})
        return self._suspend(address, drains=params.get("drain", True))

    def _suspend(self, address: str, *, drains: bool) -> RpcAnswer:
        self.busy_rounds -= 1
        if self.busy_rounds >= 0 and not drains:
            return ok({"status": "busy", "blockers": [{"kind": "embedded-run"}]})
        self.suspended.add(address)
        status = "draining" if self.busy_rounds >= 0 else "ready"
        return ok({"status": status, "suspensionId": "susp-1"})


class SandboxGateways:
    """Each sandbox's gateway: all answer by one script, each at its own address to its own token.

    A container gets another port with each start, refuses connections once it has ended, and
    answers none while it is frozen.
    """

    def __init__(self, script: ScriptedGateway, token_of: Callable[[str], str]) -> None:
        self._script = script
        self._token_of = token_of
        self._ports: dict[SandboxId, int] = {}
        self._owners: dict[int, SandboxId] = {}
        self._thawed: dict[int, asyncio.Event] = {}
        self._server: Server

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with open_server(self) as self._server:
            yield

    def follow(self, sandbox_id: SandboxId, state: SandboxState) -> str | None:
        """The address of a container that has come into a state; None if it has no process."""
        if state not in HAVE_PROCESS:
            if (port := self._ports.pop(sandbox_id, None)) is not None:
                self._server.close_port(port)
                self._script.suspended.discard(address_at(port))
            return None
        if sandbox_id not in self._ports:
            port = self._ports[sandbox_id] = self._server.open_port()
            self._owners[port], self._thawed[port] = sandbox_id, asyncio.Event()
        port = self._ports[sandbox_id]
        if state is SandboxState.RUNNING:
            self._thawed[port].set()
        else:
            self._thawed[port].clear()
        return address_at(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        port = scope["server"][1]
        await self._thawed[port].wait()
        token = f"Bearer {self._token_of(self._owners[port])}"
        # Hooks have a token of their own.
        is_hook = scope["path"].startswith(HOOKS)
        if is_hook or (b"authorization", token.encode()) in scope["headers"]:
            await self._script(scope, receive, send)
        else:
            await answer(send, 401, {"error": {"message": "Unauthorized", "type": "unauthorized"}})


def address_at(port: int) -> str:
    """The URL of a gateway."""
    return f"http://127.0.0.1:{port}"


def ok(payload: dict[str, Any] | list[Any]) -> tuple[int, dict[str, Any]]:
    """A successful response to a control call."""
    return 200, {"ok": True, "payload": payload}


def refused(message: str, status: int = 400) -> tuple[int, dict[str, Any]]:
    """An error response to a control call."""
    return status, {"ok": False, "error": {"code": "INVALID_REQUEST", "message": message}}


async def answer(send: Send, status: int, content: dict[str, Any], **headers: str) -> None:
    """Sends a JSON response."""
    await begin(send, status, "application/json", **headers)
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


async def begin(send: Send, status: int, media_type: str, **headers: str) -> None:
    """Sends the status and headers."""
    pairs = {"content-type": media_type, **headers}.items()
    encoded = [(name.encode(), value.encode()) for name, value in pairs]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def events(send: Send, *contents: dict[str, Any] | str) -> None:
    """Sends events of a stream."""
    for content in contents:
        data = content if isinstance(content, str) else json.dumps(content)
        name = "" if isinstance(content, str) else f"event: {content['type']}\n"
        chunk = f"{name}data: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def end(send: Send) -> None:
    """Ends a body."""
    await send({"type": "http.response.body", "body": b""})


async def friendly(message: ReceivedMessage, _: Receive, send: Send) -> None:
    """Sends a short response, streamed if the message asks for that."""
    if not message.body.get("stream"):
        await answer(send, 200, RESPONSE)
        return
    await begin(send, 200, "text/event-stream")
    await events(send, {"type": "response.created", "response": STARTED}, DELTA)
    await events(send, {"type": "response.completed", "response": RESPONSE}, "[DONE]")
    await end(send)


def failing(status: int, content: dict[str, Any]) -> Handler:
    """Answers every message with an error."""

    async def handler(_: ReceivedMessage, __: Receive, send: Send) -> None:
        await answer(send, status, content)

    return handler


async def endless(message: ReceivedMessage, receive: Receive, send: Send) -> None:
    """Begins a response, and does not end it until the sender disconnects."""
    if message.body.get("stream"):
        await begin(send, 200, "text/event-stream")
        await events(send, {"type": "response.created", "response": STARTED}, DELTA)
    await silent(message, receive, send)


async def silent(_: ReceivedMessage, receive: Receive, __: Send) -> None:
    """Sends nothing until the sender disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def breaking_off(message: ReceivedMessage, _: Receive, send: Send) -> None:
    """Begins a response and returns, so that the server closes the connection in the middle."""
    is_stream = bool(message.body.get("stream"))
    await begin(send, 200, "text/event-stream" if is_stream else "application/json")
    if is_stream:
        await events(send, {"type": "response.created", "response": STARTED}, DELTA)
    else:
        await send({"type": "http.response.body", "body": b'{"id":', "more_body": True})


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)
