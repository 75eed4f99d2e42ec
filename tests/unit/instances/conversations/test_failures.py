"""The errors of a failing agent: the provider's failure, or a cause that is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus
from chowder_local.core.errors.agents import (
    AgentDiskFull,
    AgentRenewed,
    GatewayUnavailable,
    MessageRefused,
)
from chowder_local.core.errors.requests import ModelKeyMissing
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.instances.lifecycle.boots import MIN_FREE_DISK_BYTES
from chowder_local.openclaw.shortcuts import FAILURE_MARKERS
from tests.scripted import gateway as scripted
from tests.scripted.shortcuts import make_unfit
from tests.scripted.talking import ask, failed, relayed, respond, stream, streaming

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from chowder_local.core.errors import ChowderError
    from tests.scripted.gateway import Handler, ReceivedMessage
    from tests.scripted.world import World

LIMIT = ProviderFailed("anthropic", 429, "Slow down.", retry_after="7")


# Failures of the model provider


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("failure", [LIMIT, ModelKeyMissing("anthropic")])
async def test_a_marked_failure_of_the_provider_is_returned(
    world: World, failure: ChowderError, is_streamed: bool
) -> None:
    instance = await world.created()
    message = relayed(failure, world, instance)
    world.gateway.handler = scripted.failing(400, failed(message, "invalid_request_error"))
    with pytest.raises(type(failure)) as raised:
        await ask(world, instance, is_streamed)
    assert raised.value is failure


@pytest.mark.parametrize(
    "words", ["upstream provider timeout", "upstream provider error", "internal error"]
)
async def test_a_failure_that_lost_its_marker_is_found(world: World, words: str) -> None:
    instance = await world.created()

    async def handler(_: ReceivedMessage, __: Receive, send: Send) -> None:
        # The model call of this message fails.
        world.model_failures.remember(LIMIT, instance.sandbox_id)
        await scripted.answer(send, 500, failed(words))

    world.gateway.handler = handler
    with pytest.raises(ProviderFailed):
        await respond(world, instance)


async def test_if_openclaw_passes_no_marker_on_the_latest_failure_is_returned(
    world: World,
) -> None:
    make_unfit(world.engine, FAILURE_MARKERS)
    instance = await world.created()

    async def handler(_: ReceivedMessage, __: Receive, send: Send) -> None:
        world.model_failures.remember(LIMIT, instance.sandbox_id)
        await scripted.answer(send, 400, failed("the model said no"))

    world.gateway.handler = handler
    with pytest.raises(ProviderFailed):
        await respond(world, instance)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_older_failure_or_one_of_another_agent_is_not_returned(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    other = await world.created()
    world.model_failures.remember(LIMIT, instance.sandbox_id)
    response = failed("internal error")
    failing = failing_stream(response) if is_streamed else scripted.failing(500, response)

    async def handler(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        world.model_failures.remember(LIMIT, other.sandbox_id)
        await failing(asked, receive, send)

    world.gateway.handler = handler
    with pytest.raises(GatewayUnavailable, match="internal error"):
        await ask(world, instance, is_streamed)


CREATED = {"type": "response.created", "response": scripted.STARTED}


def failing_stream(response: dict[str, Any], *, has_words: bool = False) -> Handler:
    words = [scripted.DELTA] if has_words else []
    return streaming(CREATED, *words, {"type": "response.failed", "response": response}, "[DONE]")


@pytest.mark.parametrize("failure", [LIMIT, ModelKeyMissing("anthropic")])
async def test_a_stream_that_fails_before_any_output_raises(
    world: World, failure: ChowderError
) -> None:
    instance = await world.created()
    world.gateway.handler = failing_stream(failed(relayed(failure, world, instance)))
    with pytest.raises(type(failure)) as raised:
        await stream(world, instance)
    assert raised.value is failure


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (LIMIT, "rate_limit_exceeded"),
        (ProviderFailed("anthropic", 401, "Bad key."), "invalid_prompt"),
        (ProviderFailed("anthropic", 503, "Down."), "server_error"),
        (ProviderFailed("anthropic", None, "no answer"), "server_error"),
        (ModelKeyMissing("anthropic"), "server_error"),
    ],
)
async def test_a_failure_of_the_provider_during_a_stream_is_an_error_event(
    world: World, failure: ChowderError, code: str
) -> None:
    instance = await world.created()
    response = failed(relayed(failure, world, instance))
    world.gateway.handler = failing_stream(response, has_words=True)
    *_, error, last, _ = await stream(world, instance)
    assert last["response"]["error"] == {"code": code, "message": str(failure)}
    assert {name: error[name] for name in ("code", "message")} == last["response"]["error"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [("api_error", GatewayUnavailable), ("invalid_request_error", MessageRefused)],
)
async def test_a_failed_response_without_a_failed_model_call_keeps_its_message(
    world: World, code: str, kind: type[ChowderError]
) -> None:
    world.gateway.handler = failing_stream(failed("It cannot be represented.", code))
    with pytest.raises(kind, match="It cannot be represented"):
        await stream(world, await world.created())


# Causes that OpenClaw does not name


async def failing_with(world: World, words: str, is_streamed: bool) -> str:
    """The error message that a client gets for a failed response."""
    response = failed(words)
    if not is_streamed:
        world.gateway.handler = scripted.failing(500, response)
        with pytest.raises(GatewayUnavailable) as raised:
            await respond(world, await world.created())
        return str(raised.value)
    world.gateway.handler = failing_stream(response, has_words=True)
    *_, last, _ = await stream(world, await world.created())
    assert last["response"]["status"] == "failed"
    return str(last["response"]["error"]["message"])


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_full_disk_is_reported_with_its_remedy(world: World, is_streamed: bool) -> None:
    world.engine.disk_free = MIN_FREE_DISK_BYTES - 1
    message = await failing_with(world, "internal error", is_streamed)
    assert "no space is left on the disk" in message
    assert "docker system df" in message


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_agent_is_booted_once_after_its_disk_was_full(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.failing(500, failed("internal error"))
    world.engine.disk_free = 0
    with pytest.raises(AgentDiskFull):
        await ask(world, instance, is_streamed)
    assert (await world.now(instance)).status is InstanceStatus.RUNNING
    world.engine.disk_free = MIN_FREE_DISK_BYTES
    with pytest.raises(AgentRenewed, match="again in a moment"):
        await ask(world, instance, is_streamed)
    instance = await world.settled(instance)
    assert instance.status is InstanceStatus.RUNNING
    assert world.engine.made("boot") == 2
    with pytest.raises(GatewayUnavailable, match="internal error"):
        await ask(world, instance, is_streamed)
    assert world.engine.made("boot") == 2


async def test_an_agent_that_was_stopped_meanwhile_is_not_booted(world: World) -> None:
    instance = await world.stopped()
    await world.healing.reboot(instance)
    assert (await world.now(instance)).status is InstanceStatus.STOPPED


async def test_a_refused_stream_reports_a_full_disk_too(world: World) -> None:
    world.engine.disk_free = 0
    world.gateway.handler = scripted.failing(500, failed("internal error"))
    with pytest.raises(AgentDiskFull):
        await stream(world, await world.created())


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("seen", [MIN_FREE_DISK_BYTES, EngineUnavailable("On holiday.")])
async def test_a_failure_without_a_known_cause_keeps_its_message(
    world: World, seen: int | Exception, is_streamed: bool
) -> None:
    if isinstance(seen, int):
        world.engine.disk_free = seen
    else:
        world.engine.failing["disk_free_bytes"] = seen
    message = await failing_with(world, "internal error", is_streamed)
    assert message.endswith("internal error")
    assert world.engine.made("disk_free_bytes") == 1


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_disk_is_not_measured_without_an_unspecific_error(
    world: World, is_streamed: bool
) -> None:
    await ask(world, await world.created(), is_streamed)
    assert "no such thing" in await failing_with(world, "no such thing", is_streamed)
    assert world.engine.made("disk_free_bytes") == 0
