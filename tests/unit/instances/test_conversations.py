"""Talking with an agent through a real socket, and every way in which that fails."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.domain import InstanceStatus, SandboxState
from chowder_local.errors.agents import (
    AgentDiskFull,
    AgentRenewed,
    AnswerUnfit,
    GatewayUnavailable,
    MessageRefused,
    ServerStopping,
)
from chowder_local.errors.requests import (
    InstanceStateWrong,
    ModelKeyMissing,
    ModelUnknown,
    ProviderReserved,
)
from chowder_local.errors.sandboxes import EngineUnavailable
from chowder_local.errors.upstream import ProviderFailed
from chowder_local.instances.conversations import LITTLE_DISK_BYTES, STUCK_SIGN
from chowder_local.openclaw.sessions import session_key
from chowder_local.upstream import sse
from tests.scripted import gateway as scripted
from tests.scripted.engine import Hold
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from chowder_local.domain import Instance
    from chowder_local.errors import ChowderError
    from tests.scripted.gateway import Asked, Handler
    from tests.scripted.world import World

CLAUDE = "claude-sonnet-4-20250514"
ASKED: dict[str, Any] = {"model": CLAUDE, "input": "Hi"}
STREAMED = ASKED | {"stream": True}
LIMIT = ProviderFailed("anthropic", 429, "Slow down.", retry_after="7")


async def respond(
    world: World, instance: Instance, asked: dict[str, Any] = ASKED, session: str | None = None
) -> dict[str, Any]:
    return await world.conversations.respond(instance, asked, session)


async def stream(world: World, instance: Instance, asked: dict[str, Any] = STREAMED) -> list[Any]:
    """What a client reads of the events, in their order; "[DONE]" as itself."""
    reader = sse.EventReader()
    events: list[Any] = []
    async for chunk in world.conversations.stream(instance, asked):
        events += [_content(event) for event in reader.feed(chunk)]
    assert reader.rest() == b""
    return events


def _content(event: sse.Event) -> Any:
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


# What goes well


async def test_a_message_gets_the_agents_answer_under_the_name_that_was_asked_for(
    world: World,
) -> None:
    answer = await respond(world, await world.created())
    assert answer["model"] == CLAUDE
    assert answer["output"][0]["content"][0]["text"] == "Hello there."


async def test_the_gateway_is_told_the_model_the_conversation_and_its_own_token(
    world: World,
) -> None:
    instance = await world.created()
    await respond(world, instance)
    (asked,) = world.gateway.messages
    assert asked.body == {"model": "openclaw", "input": "Hi"}
    assert asked.headers["x-openclaw-model"] == f"chowder-anthropic/{CLAUDE}"
    assert asked.headers["x-openclaw-session-key"] == "agent:main:main"
    token = world.vault.gateway_token(instance.sandbox_id)
    assert asked.headers["authorization"] == f"Bearer {token}"


async def test_the_model_may_change_with_every_message(world: World) -> None:
    instance = await world.created()
    answer = await respond(world, instance, ASKED | {"model": "gpt-4o"})
    assert answer["model"] == "gpt-4o"
    assert world.gateway.messages[0].headers["x-openclaw-model"] == "chowder-openai/gpt-4o"


@pytest.mark.parametrize("name", ["project-alpha", "a/b c", "名前 🦞", "cron:x", "x" * 300, ""])
async def test_a_named_session_goes_by_its_key_and_is_remembered_by_its_name(
    world: World, name: str
) -> None:
    instance = await world.created()
    await respond(world, instance, session=name)
    assert world.gateway.messages[0].headers["x-openclaw-session-key"] == session_key(name)
    (known,) = await world.sessions.of_instance(instance.id)
    assert (known.name, known.session_key) == (name, session_key(name))


async def test_a_stream_passes_each_event_on_with_its_number_and_ends_with_the_end_mark(
    world: World,
) -> None:
    *events, end = await stream(world, await world.created())
    assert end == "[DONE]"
    assert [event["type"] for event in events] == [
        "response.created",
        "response.output_text.delta",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == [0, 1, 2]
    assert events[-1]["response"]["model"] == CLAUDE


async def test_an_event_is_passed_on_before_the_next_one_is_there(world: World) -> None:
    world.gateway.handler = scripted.endless
    events = world.conversations.stream(await world.created(), STREAMED)
    async with asyncio.timeout(5):
        first = await anext(events)
    assert first.startswith(b"event: response.created\n")
    await events.aclose()  # type: ignore[attr-defined]  # a generator, which can be closed


async def test_a_comment_in_a_stream_is_passed_on_as_it_is(world: World) -> None:
    async def handler(asked: Asked, receive: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/event-stream")
        await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        await scripted.events(send, "[DONE]")
        await scripted.end(send)

    world.gateway.handler = handler
    assert await stream(world, await world.created()) == [None, "[DONE]"]


# What is refused before any sandbox is bothered


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("status", [each for each in InstanceStatus if each != "running"])
async def test_only_a_running_instance_is_talked_to(
    world: World, status: InstanceStatus, is_streamed: bool
) -> None:
    with pytest.raises(InstanceStateWrong, match=f"is {status}"):
        await ask(world, await world.placed(status), is_streamed)


@pytest.mark.parametrize(
    ("asked", "failure"),
    [
        ({"model": "llama3"}, ModelUnknown),
        ({"model": "gemini-2.0-flash"}, ModelKeyMissing),
        ({"model": "cloud/model"}, ProviderReserved),
        # Which does not run.
        ({"model": "ollama/llama3.2"}, ProviderFailed),
        ({"tools": [{"type": "mcp"}]}, MessageRefused),
    ],
)
async def test_what_cannot_work_is_refused_before_the_gateway_is_asked(
    world: World, asked: dict[str, Any], failure: type[ChowderError]
) -> None:
    instance = await world.created()
    with pytest.raises(failure):
        await respond(world, instance, ASKED | asked)
    with pytest.raises(failure):
        await stream(world, instance, STREAMED | asked)
    assert world.gateway.messages == []


async def test_an_agent_is_told_of_a_named_providers_model_with_its_first_message(
    world: World,
) -> None:
    instance = await world.created()
    for _ in range(2):
        await respond(world, instance, ASKED | {"model": "lab/model"})
    (sent, _) = world.gateway.messages
    assert sent.headers["x-openclaw-model"] == "chowder-other/lab/model"
    (patch,) = world.gateway.called("config.patch")
    (told,) = json.loads(patch["raw"])["models"]["providers"]["chowder-other"]["models"]
    assert (told["id"], told["contextWindow"]) == ("lab/model", 16_000)


# Failures of the gateway


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_sandbox_that_is_gone_is_said_to_be_so_and_is_looked_after(
    world: World, is_streamed: bool
) -> None:
    instance = await world.placed(InstanceStatus.RUNNING, gateway_url="http://127.0.0.1:9")
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    with pytest.raises(GatewayUnavailable, match="the sandbox does not answer"):
        await ask(world, instance, is_streamed)
    healed = await world.settled(instance)
    assert healed.status is InstanceStatus.RUNNING
    assert healed.gateway_url == world.engine.gateway_url


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_stop_that_our_death_cut_off_keeps_no_message_from_the_agent(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    world.gateway.is_suspended = True
    await ask(world, instance, is_streamed)
    assert len(world.gateway.messages) == 1
    assert not world.gateway.is_suspended


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_that_meets_a_stop_waits_for_it_and_is_refused(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    hold = world.engine.holds["pause"] = Hold()
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(world.lifecycle.stop(world.organization_id, instance.id))
        await hold.has_begun.wait()
        asking = tasks.create_task(_refused(world, instance, is_streamed))
        await eventually(lambda: world.gateway.refusals == 1, "the message was refused")
        hold.may_end.set()
    assert stopping.result().status is InstanceStatus.STOPPED
    assert asking.result() == "Instance is stopped, but must be running for this."
    assert world.gateway.messages == []


async def _refused(world: World, instance: Instance, is_streamed: bool) -> str:
    with pytest.raises(InstanceStateWrong) as refused:
        await ask(world, instance, is_streamed)
    return str(refused.value)


async def test_a_gateway_that_breaks_off_is_unavailable_and_the_sandbox_is_looked_after(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.breaking_off
    asked_before = world.engine.made("inspect")
    with pytest.raises(GatewayUnavailable, match="the answer broke off"):
        await respond(world, instance)
    assert world.engine.made("inspect") > asked_before


async def test_a_stream_that_breaks_off_ends_with_an_error_and_the_sandbox_is_looked_after(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.breaking_off
    asked_before = world.engine.made("inspect")
    *events, error, end = await stream(world, instance)
    assert [event["type"] for event in events] == ["response.created", DELTA]
    assert error["type"] == "error"
    assert error["message"] == "Gateway unavailable – the answer broke off before its end"
    assert error["code"] == "gateway_unavailable"
    assert error["sequence_number"] == 2
    assert end == "[DONE]"
    assert world.engine.made("inspect") > asked_before


async def test_a_stream_that_runs_when_the_server_stops_is_told_so_and_its_agent_ends(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.endless
    asked_before = world.engine.made("inspect")
    events = []
    reader = sse.EventReader()
    async for chunk in world.conversations.stream(instance, STREAMED):
        events += [_content(event) for event in reader.feed(chunk)]
        if DELTA in {event["type"] for event in events if event != "[DONE]"}:
            world.stopping.begin()
    *_, error, end = events
    assert (error["type"], error["code"]) == ("error", "server_stopping")
    assert error["message"] == "Gateway unavailable – the server is stopping"
    assert error["sequence_number"] == 2
    assert end == "[DONE]"
    async with asyncio.timeout(10):
        await world.gateway.has_left.wait()
    # Nothing is wrong with the sandbox.
    assert world.engine.made("inspect") == asked_before


async def test_a_stream_that_has_ended_says_nothing_more_when_the_server_stops(
    world: World,
) -> None:
    async def lingering(_: Asked, receive: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/event-stream")
        await scripted.events(send, {"type": "response.completed", "response": scripted.RESPONSE})
        await scripted.events(send, "[DONE]")
        await scripted.silent(_, receive, send)

    instance = await world.created()
    world.gateway.handler = lingering
    content = b""
    async for chunk in world.conversations.stream(instance, STREAMED):
        content += chunk
        if b"[DONE]" in content:
            world.stopping.begin()
    assert content.endswith(b"data: [DONE]\n\n")
    assert content.count(b"[DONE]") == 1
    assert b"server_stopping" not in content


async def test_a_stream_that_begins_when_the_server_stops_is_refused(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.endless
    world.stopping.begin()
    with pytest.raises(ServerStopping):
        await stream(world, instance)


DELTA = "response.output_text.delta"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        # Ends properly on the wire, but never said that it is over.
        ([scripted.DELTA], "the answer broke off"),
        ([scripted.DELTA, "no json"], "something else than an event"),
        ([scripted.DELTA, '["no", "event"]'], "something else than an event"),
    ],
)
async def test_a_stream_that_cannot_be_right_ends_with_an_error(
    world: World, events: list[Any], words: str
) -> None:
    world.gateway.handler = streaming(*events)
    delta, error, end = await stream(world, await world.created())
    assert delta["type"] == DELTA
    assert words in error["message"]
    assert end == "[DONE]"


@pytest.mark.parametrize("events", [[], ["no json"]])
async def test_a_stream_that_breaks_before_its_first_event_is_an_ordinary_failure(
    world: World, events: list[Any]
) -> None:
    world.gateway.handler = streaming(*events)
    instance = await world.created()
    generator = world.conversations.stream(instance, STREAMED)
    with pytest.raises(GatewayUnavailable):
        await anext(generator)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
async def test_an_answer_that_is_no_json_object_is_a_failure_of_the_gateway(
    world: World, body: bytes
) -> None:
    async def handler(_: Asked, __: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/html")
        await send({"type": "http.response.body", "body": body})

    world.gateway.handler = handler
    with pytest.raises(GatewayUnavailable, match="something else than"):
        await respond(world, await world.created())


async def test_an_engine_that_is_down_as_well_hides_no_failure_of_the_gateway(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.breaking_off
    world.engine.failing["inspect"] = EngineUnavailable("The engine is on holiday.")
    with pytest.raises(GatewayUnavailable):
        await respond(world, instance)
    assert (await stream(world, instance))[-2]["type"] == "error"


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "failure", "words"),
    [
        (400, failed("input: Invalid input"), MessageRefused, "input: Invalid input"),
        (404, failed("Unknown model: x"), MessageRefused, "Unknown model: x"),
        (401, {"error": {"message": "Unauthorized"}}, GatewayUnavailable, "Unauthorized"),
        (500, failed("internal error"), GatewayUnavailable, "internal error"),
        (502, failed("upstream provider error"), GatewayUnavailable, "upstream provider error"),
        (408, failed("upstream provider timeout"), GatewayUnavailable, "could not make sense of"),
        (503, {}, GatewayUnavailable, "HTTP 503"),
        (503, {"error": None}, GatewayUnavailable, "HTTP 503"),
        (400, {"error": {"message": "invalid request"}}, MessageRefused, "an image or file of the"),
        (
            400,
            failed("invalid tool configuration", "invalid_request_error"),
            MessageRefused,
            "called like one of the agent's own tools",
        ),
        (502, failed("tool_choice=required was not satisfied"), AnswerUnfit, "called no function"),
    ],
)
async def test_a_refusal_comes_back_in_the_gateways_words(
    world: World,
    status: int,
    body: dict[str, Any],
    failure: type[ChowderError],
    words: str,
    is_streamed: bool,
) -> None:
    world.gateway.handler = scripted.failing(status, body)
    with pytest.raises(failure, match=words):
        await ask(world, await world.created(), is_streamed)


# Answers in a form


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRUCTURED = ASKED | {
    "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}}
}


def told(arguments: str) -> dict[str, Any]:
    """An answer whose model has called the answer's function."""
    call = {"type": "function_call", "id": "call_1", "call_id": "toolu_1", "name": "final_answer"}
    return scripted.RESPONSE | {"output": [call | {"arguments": arguments}]}


async def test_a_structured_answer_is_asked_for_with_a_function_and_comes_back_as_text(
    world: World,
) -> None:
    world.gateway.handler = scripted.failing(200, told('{"city":"Rome"}'))
    answer = await respond(world, await world.created(), STRUCTURED)
    assert answer["output"][0]["content"][0]["text"] == '{"city":"Rome"}'
    (tool,) = world.gateway.messages[0].body["tools"]
    assert tool["parameters"] == SCHEMA


async def test_a_structured_answer_that_does_not_fit_is_a_failure_with_words(world: World) -> None:
    world.gateway.handler = scripted.failing(200, told('{"city":5}'))
    with pytest.raises(AnswerUnfit, match="does not fit"):
        await respond(world, await world.created(), STRUCTURED)


async def test_a_structured_answer_that_is_streamed_comes_as_text(world: World) -> None:
    completed = {"type": "response.completed", "response": told('{"city":"Rome"}')}
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


IMAGE = {"type": "input_image", "image_url": "https://x.example/y.png"}
SHOWN = ASKED | {"input": [{"role": "user", "content": [IMAGE]}]}


async def test_a_model_is_made_known_as_one_that_sees_with_the_first_image_it_is_sent(
    world: World,
) -> None:
    instance = await world.created()
    await respond(world, instance)
    assert world.gateway.called("config.patch") == []
    for _ in range(2):
        await respond(world, instance, SHOWN)
    (patch,) = world.gateway.called("config.patch")
    models = json.loads(patch["raw"])["models"]["providers"]["chowder-anthropic"]["models"]
    assert [(model["id"], model["input"]) for model in models] == [(CLAUDE, ["text", "image"])]


# Failures of the model's provider


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("failure", [LIMIT, ModelKeyMissing("anthropic")])
async def test_a_providers_failure_that_the_relay_marked_comes_back_as_it_was(
    world: World, failure: ChowderError, is_streamed: bool
) -> None:
    instance = await world.created()
    message = relayed(failure, world, instance)
    world.gateway.handler = scripted.failing(400, failed(message, "invalid_request_error"))
    with pytest.raises(type(failure)) as raised:
        await ask(world, instance, is_streamed)
    assert raised.value is failure


@pytest.mark.parametrize("words", ["upstream provider timeout", "internal error"])
async def test_a_failure_that_lost_its_marker_is_found_again(world: World, words: str) -> None:
    instance = await world.created()

    async def handler(_: Asked, __: Receive, send: Send) -> None:
        # The model call of this very message fails while it is answered.
        world.model_failures.remember(LIMIT, instance.sandbox_id)
        await scripted.answer(send, 500, failed(words))

    world.gateway.handler = handler
    with pytest.raises(ProviderFailed):
        await respond(world, instance)


async def test_an_older_failure_or_another_agents_is_not_blamed(world: World) -> None:
    instance = await world.created()
    other = await world.created()
    world.model_failures.remember(LIMIT, instance.sandbox_id)

    async def handler(_: Asked, __: Receive, send: Send) -> None:
        world.model_failures.remember(LIMIT, other.sandbox_id)
        await scripted.answer(send, 500, failed("internal error"))

    world.gateway.handler = handler
    with pytest.raises(GatewayUnavailable, match="internal error"):
        await respond(world, instance)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (LIMIT, "rate_limit_exceeded"),
        (ProviderFailed("anthropic", 401, "Bad key."), "invalid_request"),
        (ProviderFailed("anthropic", 503, "Down."), "server_error"),
        (ProviderFailed("anthropic", None, "no answer"), "server_error"),
        (ModelKeyMissing("anthropic"), "server_error"),
    ],
)
async def test_a_providers_failure_in_a_stream_is_a_failed_response_in_its_words(
    world: World, failure: ChowderError, code: str
) -> None:
    instance = await world.created()
    response = failed(relayed(failure, world, instance))
    created = {"type": "response.created", "response": scripted.STARTED}
    world.gateway.handler = streaming(
        created, {"type": "response.failed", "response": response}, "[DONE]"
    )
    events = await stream(world, instance)
    assert events[-2]["response"]["error"] == {"code": code, "message": str(failure)}


async def test_a_failed_response_that_is_none_of_the_providers_keeps_its_words(
    world: World,
) -> None:
    response = failed("Assistant output cannot be represented.")
    world.gateway.handler = streaming({"type": "response.failed", "response": response}, "[DONE]")
    event, _ = await stream(world, await world.created())
    assert event["response"]["error"] == response["error"]


# A full disk, of which OpenClaw says nothing


async def failing_with(world: World, words: str, is_streamed: bool) -> str:
    """What a client is told who gets a failed response."""
    response = failed(words)
    if not is_streamed:
        world.gateway.handler = scripted.failing(500, response)
        with pytest.raises(GatewayUnavailable) as raised:
            await respond(world, await world.created())
        return str(raised.value)
    created = {"type": "response.created", "response": scripted.STARTED}
    world.gateway.handler = streaming(
        created, {"type": "response.failed", "response": response}, "[DONE]"
    )
    first, last, done = await stream(world, await world.created())
    assert (first["sequence_number"], last["sequence_number"], done) == (0, 1, "[DONE]")
    assert last["response"]["status"] == "failed"
    return str(last["response"]["error"]["message"])


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_to_an_agent_whose_disk_is_full_is_answered_with_that_and_the_cure(
    world: World, is_streamed: bool
) -> None:
    world.engine.disk_free = LITTLE_DISK_BYTES - 1
    told = await failing_with(world, "internal error", is_streamed)
    assert "no space is left on the disk" in told
    assert "docker system df" in told


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_agent_that_does_not_get_over_a_full_disk_is_booted_again_and_once_only(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.failing(500, failed("internal error"))
    world.engine.disk_free = 0
    with pytest.raises(AgentDiskFull):
        await ask(world, instance, is_streamed)
    assert (await world.now(instance)).status is InstanceStatus.RUNNING
    world.engine.disk_free = LITTLE_DISK_BYTES
    with pytest.raises(AgentRenewed, match="again in a moment"):
        await ask(world, instance, is_streamed)
    assert (await world.settled(instance)).status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2
    with pytest.raises(GatewayUnavailable, match="internal error"):
        await ask(world, instance, is_streamed)
    assert world.engine.made("boot") == 2


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_agent_that_does_not_get_over_having_been_frozen_is_booted_again(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.failing(500, failed("internal error"))
    world.engine.log = f"[diagnostic] lane task error: lane=main durationMs=36 {STUCK_SIGN} x=y\n"
    with pytest.raises(AgentRenewed, match="frozen, so it is started again"):
        await ask(world, instance, is_streamed)
    world.engine.log = "[gateway] ready\n"
    assert (await world.settled(instance)).status is InstanceStatus.RUNNING
    with pytest.raises(GatewayUnavailable, match="internal error"):
        await ask(world, instance, is_streamed)
    assert world.engine.made("boot") == 2


async def test_an_agent_that_is_stopped_meanwhile_is_not_booted(world: World) -> None:
    instance = await world.stopped()
    await world.reconciler.renew(instance)
    assert (await world.now(instance)).status is InstanceStatus.STOPPED


async def test_a_stream_that_is_refused_on_a_full_disk_says_so_too(world: World) -> None:
    world.engine.disk_free = 0
    world.gateway.handler = scripted.failing(500, failed("internal error"))
    with pytest.raises(AgentDiskFull):
        await stream(world, await world.created())


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("seen", [LITTLE_DISK_BYTES, EngineUnavailable("On holiday.")])
async def test_a_failure_that_no_disk_explains_keeps_its_words(
    world: World, seen: int | Exception, is_streamed: bool
) -> None:
    if isinstance(seen, int):
        world.engine.disk_free = seen
    else:
        world.engine.failing["disk_free_bytes"] = seen
    told = await failing_with(world, "internal error", is_streamed)
    assert told.endswith("internal error")
    assert world.engine.made("disk_free_bytes") == 1


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_no_disk_is_looked_at_while_all_is_well_or_the_cause_is_told(
    world: World, is_streamed: bool
) -> None:
    await ask(world, await world.created(), is_streamed)
    assert "no such thing" in await failing_with(world, "no such thing", is_streamed)
    assert world.engine.made("disk_free_bytes") == 0


# Clients that leave


async def test_a_cancelled_message_ends_the_agents_run(world: World) -> None:
    world.gateway.handler = scripted.silent
    instance = await world.created()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(respond(world, instance))
        await eventually(lambda: world.gateway.messages, "the gateway was asked")
        asking.cancel()
    async with asyncio.timeout(5):
        await world.gateway.has_left.wait()


async def test_a_stream_that_is_closed_ends_the_agents_run(world: World) -> None:
    world.gateway.handler = scripted.endless
    events = world.conversations.stream(await world.created(), STREAMED)
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined]  # a generator, which can be closed
    async with asyncio.timeout(5):
        await world.gateway.has_left.wait()
