"""What becomes of a message whose gateway stops, breaks off, or makes no sense."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import (
    AnswerUnfit,
    GatewayUnavailable,
    MessageRefused,
    ServerStopping,
)
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.instances.lifecycle import healing
from chowder_local.upstream import sse
from tests.scripted import gateway as scripted
from tests.scripted.engine import Hold
from tests.scripted.refusals import refusal_of
from tests.scripted.serving import eventually
from tests.scripted.talking import (
    SHOWN,
    STREAMED,
    ask,
    content,
    failed,
    respond,
    stream,
    streaming,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from tests.scripted.gateway import Asked
    from tests.scripted.world import World


@pytest.fixture(autouse=True)
def _check_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent whose sandbox runs on is not looked at for half a second after each failure."""
    monkeypatch.setattr(healing, "CHECK_INTERVAL_S", 0.001)


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


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_message_whose_model_cannot_be_made_known_now_waits_as_any_other(
    world: World, is_stopped: bool
) -> None:
    instance = await world.created()
    async with asyncio.TaskGroup() as tasks, world.locks.holding(instance.id):
        world.gateway.is_suspended = True
        asking = tasks.create_task(_outcome(respond(world, instance, SHOWN)))
        await eventually(lambda: world.gateway.refusals == 1, "it cannot be made known")
        if is_stopped:
            status = InstanceStatus.STOPPED
            await world.instances.change(instance.id, now=world.clock(), status=status)
    assert await asking == ("InstanceStateWrong" if is_stopped else "completed")


async def _outcome(answer: Awaitable[dict[str, Any]]) -> str:
    try:
        return str((await answer)["status"])
    except InstanceStateWrong as wrong:
        return type(wrong).__name__


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
    *events, error, failed, end = await stream(world, instance)
    assert [event["type"] for event in events] == ["response.created", DELTA]
    assert error["type"] == "error"
    assert error["message"] == "Gateway unavailable – the answer broke off before its end"
    assert error["code"] == "server_error"
    assert error["sequence_number"] == 2
    assert failed["response"]["error"]["message"] == error["message"]
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
        events += [content(event) for event in reader.feed(chunk)]
        if DELTA in {event["type"] for event in events if event != "[DONE]"}:
            world.shutdown.begin()
    *_, error, _, end = events
    assert (error["type"], error["code"]) == ("error", "server_error")
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
            world.shutdown.begin()
    assert content.endswith(b"data: [DONE]\n\n")
    assert content.count(b"[DONE]") == 1
    assert b"server_stopping" not in content


async def test_a_stream_that_begins_when_the_server_stops_is_refused(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.endless
    world.shutdown.begin()
    with pytest.raises(ServerStopping):
        await stream(world, instance)


DELTA = "response.output_text.delta"


async def test_a_stream_that_cannot_be_right_ends_with_an_error(world: World) -> None:
    instance = await world.created()
    for events, words in (
        # Ends properly on the wire, but never said that it is over.
        ([scripted.DELTA], "the answer broke off"),
        ([scripted.DELTA, "no json"], "something else than an event"),
        ([scripted.DELTA, '["no", "event"]'], "something else than an event"),
    ):
        world.gateway.handler = streaming(*events)
        delta, error, end = await stream(world, instance)
        assert delta["type"] == DELTA, events
        assert words in error["message"], events
        assert end == "[DONE]", events


async def test_a_stream_that_breaks_before_its_first_event_is_an_ordinary_failure(
    world: World,
) -> None:
    instance = await world.created()
    for words, events in {"broke off": [], "something else than": ["no json"]}.items():
        world.gateway.handler = streaming(*events)
        with pytest.raises(GatewayUnavailable, match=words):
            await anext(world.conversations.stream(instance, STREAMED))


async def test_an_answer_that_is_no_json_object_is_a_failure_of_the_gateway(
    world: World,
) -> None:
    instance = await world.created()
    for body in (b"<html>", b"[]", b""):
        world.gateway.handler = html(body)
        with pytest.raises(GatewayUnavailable, match="something else than"):
            await respond(world, instance)


def html(body: bytes) -> scripted.Handler:
    async def handler(_: Asked, __: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/html")
        await send({"type": "http.response.body", "body": body})

    return handler


async def test_an_engine_that_is_down_as_well_hides_no_failure_of_the_gateway(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.breaking_off
    world.engine.failing["inspect"] = EngineUnavailable("The engine is on holiday.")
    with pytest.raises(GatewayUnavailable):
        await respond(world, instance)
    assert (await stream(world, instance))[-3]["type"] == "error"


REFUSALS: list[tuple[int, dict[str, Any], type[ChowderError], str]] = [
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
]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_refusal_comes_back_in_the_gateways_words(world: World, is_streamed: bool) -> None:
    instance = await world.created()
    unlike = {}
    for status, body, failure, words in REFUSALS:
        world.gateway.handler = scripted.failing(status, body)
        told = await refusal_of(failure, ask(world, instance, is_streamed))
        if words not in told:
            unlike[status, str(body)] = told
    assert not unlike
