"""Messages to the agents of a scripted world, and what its gateway answers them with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chowder_local.upstream import sse
from tests.scripted import gateway as scripted

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from tests.scripted.gateway import Asked, Handler
    from tests.scripted.world import World

CLAUDE = "claude-sonnet-4-20250514"
ASKED: dict[str, Any] = {"model": CLAUDE, "input": "Hi"}
STREAMED = ASKED | {"stream": True}
IMAGE = {"type": "input_image", "image_url": "https://x.example/y.png"}
SHOWN = ASKED | {"input": [{"role": "user", "content": [IMAGE]}]}


async def respond(
    world: World, instance: Instance, asked: dict[str, Any] = ASKED, session: str | None = None
) -> dict[str, Any]:
    return await world.conversations.respond(instance, asked, session)


async def stream(world: World, instance: Instance, asked: dict[str, Any] = STREAMED) -> list[Any]:
    """What a client reads of the events, in their order; "[DONE]" as itself."""
    reader = sse.EventReader()
    events: list[Any] = []
    async for chunk in world.conversations.stream(instance, asked):
        events += [content(event) for event in reader.feed(chunk)]
    assert reader.rest() == b""
    return events


def content(event: sse.Event) -> Any:
    """An event's data, read if it is JSON."""
    if event.data is None or event.data == "[DONE]":
        return event.data
    content = json.loads(event.data)
    assert content["type"] == event.name
    return content


async def ask(world: World, instance: Instance, is_streamed: bool) -> Any:
    """A message in one of the two ways, for what both have in common."""
    return await (stream(world, instance) if is_streamed else respond(world, instance))


def relayed(failure: ChowderError, world: World, instance: Instance) -> str:
    """A model call's failure as OpenClaw words it, with the relay's marker in it."""
    marker = world.model_failures.remember(failure, instance.sandbox_id)
    return f'400: {{"error":{{"message":"{marker}"}}}}'


def failed(message: str, code: str = "api_error") -> dict[str, Any]:
    return scripted.RESPONSE | {
        "status": "failed",
        "output": [],
        "error": {"code": code, "message": message},
    }


def streaming(*events: dict[str, Any] | str, status: int = 200) -> Handler:
    async def handler(_: Asked, __: Receive, send: Send) -> None:
        await scripted.begin(send, status, "text/event-stream")
        await scripted.events(send, *events)
        await scripted.end(send)

    return handler
