"""Messages whose gateway is stopped, breaks off or answers nonsense."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.agents import (
    AnswerUnfit,
    GatewayUnavailable,
    MessageRefused,
)
from chowder_local.core.errors.requests import InstanceStateWrong
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.instances.lifecycle import reconciler
from tests.scripted import gateway as scripted
from tests.scripted.engine import Hold
from tests.scripted.refusals import refusal_of
from tests.scripted.serving import eventually
from tests.scripted.talking import (
    IMAGE_REQUEST,
    REQUEST,
    STREAM_REQUEST,
    ask,
    failed,
    respond,
    stream,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive, Send

    from chowder_local.core.domain import Instance
    from chowder_local.core.errors import ChowderError
    from tests.scripted.gateway import ReceivedMessage
    from tests.scripted.world import World


@pytest.fixture(autouse=True)
def short_check_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "CHECK_INTERVAL_S", 0.001)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_to_a_missing_sandbox_fails_and_heals_the_instance(
    world: World, is_streamed: bool
) -> None:
    instance = await world.placed(InstanceStatus.RUNNING, gateway_url="http://127.0.0.1:9")
    world.engine.put(instance.sandbox_id, SandboxState.EXITED)
    with pytest.raises(GatewayUnavailable, match="the sandbox does not answer"):
        await ask(world, instance, is_streamed)
    healed = await world.settled(instance)
    assert healed.status is InstanceStatus.RUNNING
    assert healed.gateway_url == world.engine.address(instance.sandbox_id)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_message_ends_the_drain_of_an_interrupted_stop(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    world.gateway.suspended.add(world.engine.address(instance.sandbox_id))
    await ask(world, instance, is_streamed)
    assert len(world.gateway.messages) == 1
    assert not world.gateway.suspended


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("call", ["inspect", "pause"])
async def test_a_message_during_a_stop_waits_and_is_refused(
    world: World, call: str, is_streamed: bool
) -> None:
    instance = await world.created()
    hold = world.engine.holds[call] = Hold()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(world.lifecycle.stop(world.organization_id, instance.id))
        await hold.has_begun.wait()
        asking = tasks.create_task(_refused(world, instance, is_streamed))
        await eventually(lambda: world.residency.is_used(instance.id), "the message has come")
        hold.may_end.set()
    assert stopping.result().status is InstanceStatus.STOPPED
    assert asking.result() == "Instance is stopped, but must be running for this."
    assert world.gateway.messages == []


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize("asked", [REQUEST, IMAGE_REQUEST], ids=["sent", "registered"])
async def test_a_message_that_a_drained_gateway_refuses_waits_for_the_stop_too(
    world: World, asked: dict[str, Any], is_stopped: bool
) -> None:
    instance = await world.created()
    async with asyncio.TaskGroup() as tasks, world.agents.holding(instance):
        world.gateway.suspended.add(world.engine.address(instance.sandbox_id))
        asking = tasks.create_task(_outcome(respond(world, instance, asked)))
        await eventually(lambda: world.gateway.refusals == 1, "the gateway refused it")
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


async def test_an_answer_that_breaks_off_fails_and_heals_the_instance(
    world: World,
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.breaking_off
    asked_before = world.engine.made("inspect")
    with pytest.raises(GatewayUnavailable, match="the answer broke off"):
        await respond(world, instance)
    assert world.engine.made("inspect") > asked_before


async def test_a_stream_that_breaks_off_ends_with_an_error_and_heals_the_instance(
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


async def test_a_shutdown_adds_nothing_to_a_stream_that_has_ended(
    world: World,
) -> None:
    async def lingering(_: ReceivedMessage, receive: Receive, send: Send) -> None:
        await scripted.begin(send, 200, "text/event-stream")
        await scripted.events(send, {"type": "response.completed", "response": scripted.RESPONSE})
        await scripted.events(send, "[DONE]")
        await scripted.silent(_, receive, send)

    instance = await world.created()
    world.gateway.handler = lingering
    content = b""
    async for chunk in world.conversations.stream(instance, STREAM_REQUEST):
        content += chunk
        if b"[DONE]" in content:
            world.shutdown.begin()
    assert content.endswith(b"data: [DONE]\n\n")
    assert content.count(b"[DONE]") == 1
    assert b"server_stopping" not in content


DELTA = "response.output_text.delta"


async def test_a_failure_of_the_engine_does_not_hide_one_of_the_gateway(
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
    (
        502,
        failed("tool_choice=required was not satisfied"),
        AnswerUnfit,
        "none of the required functions",
    ),
]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_refusal_has_the_message_of_the_gateway(world: World, is_streamed: bool) -> None:
    instance = await world.created()
    mismatches = {}
    for status, body, failure, words in REFUSALS:
        world.gateway.handler = scripted.failing(status, body)
        message = await refusal_of(failure, ask(world, instance, is_streamed))
        if words not in message:
            mismatches[status, str(body)] = message
    assert not mismatches
