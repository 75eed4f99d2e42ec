"""Sends messages to the agents of a scripted world, and makes its gateway's responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.upstream import sse
from tests.scripted import gateway as scripted

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from tests.scripted.gateway import Handler, ReceivedMessage
    from tests.scripted.world import World

CLAUDE = "claude-sonnet-4-20250514"
REQUEST: dict[str, Any] = {"model": CLAUDE, "input": "Hi"}
STREAM_REQUEST = REQUEST | {"stream": True}
IMAGE = {"type": "input_image", "image_url": "https://x.example/y.png"}
IMAGE_REQUEST = REQUEST | {"input": [{"role": "user", "content": [IMAGE]}]}


async def respond(
    world: World, instance: Instance, request: dict[str, Any] = REQUEST, session: str | None = None
) -> dict[str, Any]:
    return await world.conversations.respond(instance, request, session)


async def stream(
    world: World, instance: Instance, request: dict[str, Any] = STREAM_REQUEST
) -> list[Any]:
    """The contents of the events that a client gets, in order."""
    reader = sse.EventReader()
    events: list[Any] = []
    async for chunk in world.conversations.stream(instance, request):
        events += [content(event) for event in reader.feed(chunk)]
    assert reader.rest() == b""
    return events


def content(event: sse.Event) -> Any:
    """An event's data, parsed unless it is "[DONE]"."""
    if event.data is None or event.data == "[DONE]":
        return event.data
    content = json.loads(event.data)
    assert content["type"] == event.name
    return content


async def ask(world: World, instance: Instance, is_streamed: bool) -> Any:
    """Sends a message, streamed or not."""
    return await (stream(world, instance) if is_streamed else respond(world, instance))


def relayed(failure: ChowderError, world: World, instance: Instance) -> str:
    """A model call's failure in OpenClaw's words, with the relay's marker."""
    marker = world.model_failures.remember(failure, instance.sandbox_id)
    return f'400: {{"error":{{"message":"{marker}"}}}}'


def failed(message: str, code: str = "api_error") -> dict[str, Any]:
    return scripted.RESPONSE | {
        "status": "failed",
        "output": [],
        "error": {"code": code, "message": message},
    }


def streaming(*events: dict[str, Any] | str, status: int = 200) -> Handler:
    async def handler(_: ReceivedMessage, __: Receive, send: Send) -> None:
        await scripted.begin(send, status, "text/event-stream")
        await scripted.events(send, *events)
        await scripted.end(send)

    return handler
