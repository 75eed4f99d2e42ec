"""Messages to an agent through a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.errors.agents import AnswerUnfit, MessageRefused
from chowder_local.core.errors.requests import (
    ModelKeyMissing,
    ModelUnknown,
    ProviderReserved,
)
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.openclaw.session_keys import session_key
from tests.scripted import gateway as scripted
from tests.scripted.talking import (
    CLAUDE,
    IMAGE_REQUEST,
    REQUEST,
    STREAM_REQUEST,
    respond,
    stream,
    streaming,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from chowder_local.core.errors import ChowderError
    from tests.scripted.gateway import ReceivedMessage
    from tests.scripted.world import World


# Answers


async def test_the_gateway_gets_the_model_the_session_and_its_token(
    world: World,
) -> None:
    instance = await world.created()
    await respond(world, instance)
    (asked,) = world.gateway.messages
    assert asked.body == {"model": "openclaw", "input": "Hi"}
    assert asked.headers["x-openclaw-model"] == f"chowder-anthropic/{CLAUDE}"
    assert asked.headers["x-openclaw-session-key"] == "agent:main:main"
    token = world.secret_box.gateway_token(instance.sandbox_id)
    assert asked.headers["authorization"] == f"Bearer {token}"


async def test_the_model_may_change_with_every_message(world: World) -> None:
    instance = await world.created()
    answer = await respond(world, instance, REQUEST | {"model": "gpt-4o"})
    assert answer["model"] == "gpt-4o"
    assert world.gateway.messages[0].headers["x-openclaw-model"] == "chowder-openai/gpt-4o"


@pytest.mark.parametrize("name", ["project-alpha", "a/b c", "名前 🦞", "cron:x", "x" * 300, ""])
async def test_a_named_session_is_sent_by_its_key_and_stored_by_its_name(
    world: World, name: str
) -> None:
    instance = await world.created()
    await respond(world, instance, session=name)
    assert world.gateway.messages[0].headers["x-openclaw-session-key"] == session_key(name)
    (known,) = await world.sessions.of_instance(instance.id)
    assert (known.name, known.session_key) == (name, session_key(name))


async def test_a_comment_in_a_stream_is_passed_on(world: World) -> None:
    async def handler(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/event-stream")
        await scripted.events(send, scripted.DELTA)
        await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        await scripted.events(send, "[DONE]")
        await scripted.end(send)

    world.gateway.handler = handler
    assert (await stream(world, await world.created()))[1:] == [None, "[DONE]"]


# Refusals


@pytest.mark.parametrize(
    ("asked", "failure"),
    [
        ({"model": "llama3"}, ModelUnknown),
        ({"model": "gemini-2.0-flash"}, ModelKeyMissing),
        ({"model": "cloud/model"}, ProviderReserved),
        # Ollama does not run.
        ({"model": "ollama/llama3.2"}, ProviderFailed),
        ({"tools": [{"type": "mcp"}]}, MessageRefused),
    ],
)
async def test_an_invalid_message_is_refused_before_the_gateway_is_called(
    world: World, asked: dict[str, Any], failure: type[ChowderError]
) -> None:
    instance = await world.created()
    with pytest.raises(failure):
        await respond(world, instance, REQUEST | asked)
    with pytest.raises(failure):
        await stream(world, instance, STREAM_REQUEST | asked)
    assert world.gateway.messages == []


async def test_the_model_of_a_named_endpoint_is_registered_with_the_first_message(
    world: World,
) -> None:
    instance = await world.created()
    for _ in range(2):
        await respond(world, instance, REQUEST | {"model": "lab/model"})
    (sent, _) = world.gateway.messages
    assert sent.headers["x-openclaw-model"] == "chowder-other/lab/model"
    (patch,) = world.gateway.called("config.patch")
    (model,) = json.loads(patch["raw"])["models"]["providers"]["chowder-other"]["models"]
    assert (model["id"], model["contextWindow"]) == ("lab/model", 16_000)


# Structured answers


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRUCTURED = REQUEST | {
    "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}}
}


def tool_call(arguments: str) -> dict[str, Any]:
    """A response in which the model has called the answer function."""
    call = {"type": "function_call", "id": "call_1", "call_id": "toolu_1", "name": "final_answer"}
    return scripted.RESPONSE | {"output": [call | {"arguments": arguments}]}


async def test_a_structured_answer_is_requested_by_a_function_and_returned_as_text(
    world: World,
) -> None:
    world.gateway.handler = scripted.failing(200, tool_call('{"city":"Rome"}'))
    answer = await respond(world, await world.created(), STRUCTURED)
    assert answer["output"][0]["content"][0]["text"] == '{"city":"Rome"}'
    (tool,) = world.gateway.messages[0].body["tools"]
    assert tool["parameters"] == SCHEMA


async def test_a_structured_answer_that_does_not_fit_raises(world: World) -> None:
    world.gateway.handler = scripted.failing(200, tool_call('{"city":5}'))
    with pytest.raises(AnswerUnfit, match="does not fit"):
        await respond(world, await world.created(), STRUCTURED)


async def test_a_streamed_structured_answer_is_text(world: World) -> None:
    completed = {"type": "response.completed", "response": tool_call('{"city":"Rome"}')}
    world.gateway.handler = streaming(
        {"type": "response.created", "response": scripted.STARTED},
        scripted.DELTA,
        completed,
        "[DONE]",
    )
    events = await stream(world, await world.created(), STRUCTURED | {"stream": True})
    deltas = [event["delta"] for event in events[:-1] if event["type"].endswith("text.delta")]
    assert deltas == ['{"city":"Rome"}']


# Images


async def test_a_model_is_registered_for_vision_with_its_first_image(
    world: World,
) -> None:
    instance = await world.created()
    await respond(world, instance)
    assert world.gateway.called("config.patch") == []
    for _ in range(2):
        await respond(world, instance, IMAGE_REQUEST)
    (patch,) = world.gateway.called("config.patch")
    models = json.loads(patch["raw"])["models"]["providers"]["chowder-anthropic"]["models"]
    assert [(model["id"], model["input"]) for model in models] == [(CLAUDE, ["text", "image"])]


# Clients that disconnect
