"""What of a message goes to an agent that has heard some of it before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import Instance, ModelProvider
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.openclaw.session_keys import MAIN_KEY
from tests.scripted import gateway as scripted
from tests.scripted.model_calls import model_call
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.talking import ASKED, CLAUDE, failed, relayed, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Send

    from tests.scripted.gateway import Asked, Handler
    from tests.scripted.world import World

FIRST, SECOND = {"role": "user", "content": "First."}, {"role": "user", "content": "Second."}


def as_openclaw(
    world: World, instance: Instance, session_id: Callable[[], str] = lambda: "session-1"
) -> Handler:
    """Answers after a model call that says which session of OpenClaw's it is of."""

    async def handler(asked: Asked, receive: Receive, send: Send) -> None:
        line = f"Runtime: agent=main | session={MAIN_KEY} | sessionId={session_id()} | host=agent"
        body = b'{"input": [{"role": "developer", "content": "%s"}]}' % line.encode()
        call = model_call(ModelProvider.OPENAI, "responses", body)
        if world.session_watch.is_lost(instance.sandbox_id, call):
            await scripted.failing(400, failed("forgotten"))(asked, receive, send)
        else:
            await scripted.friendly(asked, receive, send)

    return handler


async def say(world: World, instance: Instance, *items: Any, is_streamed: bool = False) -> Any:
    asked = ASKED | {"input": list(items), "stream": is_streamed}
    if not is_streamed:
        return (await respond(world, instance, asked))["output"]
    return (await stream(world, instance, asked))[-2]["response"]["output"]


def told(world: World) -> list[str]:
    """What the latest message to the agent had in it."""
    value = world.gateway.messages[-1].body["input"]
    if isinstance(value, str):
        return [value]
    return [
        each["content"] if isinstance(each["content"], str) else each["content"][0]["text"]
        for each in value
    ]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_history_that_is_sent_whole_is_not_said_again(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    output = await say(world, instance, FIRST, is_streamed=is_streamed)
    output = [*output, SECOND, *await say(world, instance, FIRST, *output, SECOND)]
    await say(world, instance, FIRST, *output, FIRST, is_streamed=is_streamed)
    assert [len(each.body["input"]) for each in world.gateway.messages] == [1, 1, 1]
    assert told(world) == ["First."]


async def test_foreign_history_is_told_once(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    foreign = [FIRST, {"role": "assistant", "content": "Elsewhere."}, SECOND]
    output = await say(world, instance, *foreign)
    assert told(world) == ["First.", "Elsewhere.", "Second."]
    await say(world, instance, *foreign, *output, {"role": "user", "content": "Third."})
    assert told(world) == ["Third."]


async def test_each_session_has_a_history_of_its_own(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    output = await say(world, instance, FIRST)
    asked = ASKED | {"input": [FIRST, *output, SECOND]}
    await respond(world, instance, asked, session="other")
    assert told(world) == ["First.", "Hello there.", "Second."]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_agent_that_has_forgotten_gets_the_message_whole(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    sessions = ["session-2", "session-2", "session-1"]
    world.gateway.handler = as_openclaw(world, instance, sessions.pop)
    output = await say(world, instance, FIRST)
    await say(world, instance, FIRST, *output, SECOND, is_streamed=is_streamed)
    assert [len(each.body["input"]) for each in world.gateway.messages] == [1, 1, 3]
    history = world.histories.latest(instance.id, MAIN_KEY)
    assert (history.openclaw_session_id, len(history.items)) == ("session-2", 4)


async def test_a_message_that_failed_is_taken_back_when_it_is_said_again(world: World) -> None:
    instance = await world.created()
    words = relayed(ProviderFailed("openai", 500, "no"), world, instance)
    world.gateway.handler = scripted.failing(400, failed(words))
    with pytest.raises(ProviderFailed):
        await say(world, instance, FIRST)
    latest = {"position": 0, "role": "user", "id": "entry-1"}
    page = [latest | {"parts": [{"type": "text", "text": "First."}]}]
    world.programs.answers["read"] = done(is_known=True, messages=page, has_more=False)
    world.programs.answers["sessions.rewind"] = done()
    world.gateway.handler = None
    await say(world, instance, SECOND)
    assert world.programs.called("sessions.rewind") == []
    world.gateway.handler = scripted.breaking_off
    with pytest.raises(GatewayUnavailable):
        await say(world, instance, FIRST)
    world.gateway.handler = None
    await say(world, instance, FIRST)
    taken_back = {"sessionKey": MAIN_KEY, "entryId": "entry-1"}
    assert world.programs.called("sessions.rewind") == [taken_back]


async def test_a_message_whose_client_has_gone_is_not_known_later(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.silent
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(say(world, instance, FIRST))
        await eventually(lambda: bool(world.gateway.messages), "the message is there")
        waiting.cancel()
    (item,) = world.histories.latest(instance.id, MAIN_KEY).items
    assert item.status == "cancelled"
    world.gateway.handler = as_openclaw(world, instance)
    await say(world, instance, FIRST)
    # OpenClaw itself sees that it is the same.
    assert world.programs.calls == []
    history = world.histories.latest(instance.id, MAIN_KEY)
    assert [each.status for each in history.items] == ["answered", "answered"]


async def test_a_fork_knows_what_its_original_was_told(world: World) -> None:
    world.programs.answers["sessions.delete"] = done()
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    output = await say(world, instance, FIRST)
    fork = await world.settled(await world.forks.fork(instance, "Fork"))
    world.gateway.handler = as_openclaw(world, fork)
    await say(world, fork, FIRST, *output, SECOND)
    assert told(world) == ["Second."]


async def test_what_the_gateway_refuses_was_not_said(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.failing(400, failed("invalid request"))
    with pytest.raises(Exception, match="could not be taken"):
        await respond(world, instance, {"model": CLAUDE, "input": [FIRST]})
    assert world.histories.latest(instance.id, MAIN_KEY).items == ()
