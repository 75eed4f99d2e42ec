"""Leaving out of messages the history that an agent has already."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import Instance, ModelProvider
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.openclaw.session_keys import MAIN_KEY
from chowder_local.relay.call_log import CallLog
from tests.scripted import gateway as scripted
from tests.scripted.programs import done
from tests.scripted.serving import eventually
from tests.scripted.talking import CLAUDE, REQUEST, failed, relayed, respond, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Send

    from tests.scripted.gateway import Handler, ReceivedMessage
    from tests.scripted.world import World

FIRST, SECOND = {"role": "user", "content": "First."}, {"role": "user", "content": "Second."}


def as_openclaw(
    world: World, instance: Instance, session_id: Callable[[], str] = lambda: "session-1"
) -> Handler:
    """Answers after a model call that carries the id of an OpenClaw session."""

    async def handler(asked: ReceivedMessage, receive: Receive, send: Send) -> None:
        line = f"Runtime: agent=main | session={MAIN_KEY} | sessionId={session_id()} | host=agent"
        body = b'{"input": [{"role": "developer", "content": "%s"}]}' % line.encode()
        call = CallLog().begin(None, instance.id, ModelProvider.OPENAI, "responses", body)
        if not world.session_watch.note(instance.sandbox_id, call):
            await scripted.failing(400, failed("forgotten"))(asked, receive, send)
        else:
            await scripted.friendly(asked, receive, send)

    return handler


async def send(world: World, instance: Instance, *items: Any, is_streamed: bool = False) -> Any:
    asked = REQUEST | {"input": list(items), "stream": is_streamed}
    if not is_streamed:
        return (await respond(world, instance, asked))["output"]
    return (await stream(world, instance, asked))[-2]["response"]["output"]


def sent_texts(world: World) -> list[str]:
    """The texts of the latest message to the agent."""
    value = world.gateway.messages[-1].body["input"]
    if isinstance(value, str):
        return [value]
    return [
        each["content"] if isinstance(each["content"], str) else each["content"][0]["text"]
        for each in value
    ]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_known_history_is_not_sent_again(world: World, is_streamed: bool) -> None:
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    output = await send(world, instance, FIRST, is_streamed=is_streamed)
    output = [*output, SECOND, *await send(world, instance, FIRST, *output, SECOND)]
    await send(world, instance, FIRST, *output, FIRST, is_streamed=is_streamed)
    assert [len(each.body["input"]) for each in world.gateway.messages] == [1, 1, 1]
    assert sent_texts(world) == ["First."]


async def test_unknown_history_is_sent_once(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    foreign = [FIRST, {"role": "assistant", "content": "Elsewhere."}, SECOND]
    output = await send(world, instance, *foreign)
    assert sent_texts(world) == ["First.", "Elsewhere.", "Second."]
    await send(world, instance, *foreign, *output, {"role": "user", "content": "Third."})
    assert sent_texts(world) == ["Third."]


async def test_each_session_has_a_history_of_its_own(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    output = await send(world, instance, FIRST)
    asked = REQUEST | {"input": [FIRST, *output, SECOND]}
    await respond(world, instance, asked, session="other")
    assert sent_texts(world) == ["First.", "Hello there.", "Second."]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_agent_that_has_forgotten_gets_the_whole_message(
    world: World, is_streamed: bool
) -> None:
    instance = await world.created()
    sessions = ["session-2", "session-2", "session-1"]
    world.gateway.handler = as_openclaw(world, instance, sessions.pop)
    output = await send(world, instance, FIRST)
    await send(world, instance, FIRST, *output, SECOND, is_streamed=is_streamed)
    assert [len(each.body["input"]) for each in world.gateway.messages] == [1, 1, 3]
    history = world.histories.latest(instance.id, MAIN_KEY)
    assert (history.openclaw_session_id, len(history.items)) == ("session-2", 4)


async def test_a_failed_message_is_removed_from_the_session_when_it_is_sent_again(
    world: World,
) -> None:
    instance = await world.created()
    words = relayed(ProviderFailed("openai", 500, "no"), world, instance)
    world.gateway.handler = scripted.failing(400, failed(words))
    with pytest.raises(ProviderFailed):
        await send(world, instance, FIRST)
    latest = {"position": 0, "role": "user", "id": "entry-1"}
    page = [latest | {"parts": [{"type": "text", "text": "First."}]}]
    world.programs.answers["read"] = done(is_known=True, messages=page, has_more=False)
    world.programs.answers["sessions.rewind"] = done()
    world.gateway.handler = None
    await send(world, instance, SECOND)
    assert world.programs.called("sessions.rewind") == []
    world.gateway.handler = scripted.breaking_off
    with pytest.raises(GatewayUnavailable):
        await send(world, instance, FIRST)
    world.gateway.handler = None
    await send(world, instance, FIRST)
    taken_back = {"sessionKey": MAIN_KEY, "entryId": "entry-1"}
    assert world.programs.called("sessions.rewind") == [taken_back]


async def test_a_cancelled_message_is_not_part_of_the_known_history(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.silent
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(send(world, instance, FIRST))
        await eventually(lambda: bool(world.gateway.messages), "the message is there")
        waiting.cancel()
    (item,) = world.histories.latest(instance.id, MAIN_KEY).items
    assert item.status == "cancelled"
    world.gateway.handler = as_openclaw(world, instance)
    await send(world, instance, FIRST)
    # OpenClaw itself recognizes it.
    assert world.programs.calls == []
    history = world.histories.latest(instance.id, MAIN_KEY)
    assert [each.status for each in history.items] == ["answered", "answered"]


async def test_a_fork_has_the_histories_of_its_original(world: World) -> None:
    world.programs.answers["sessions.delete"] = done()
    instance = await world.created()
    world.gateway.handler = as_openclaw(world, instance)
    output = await send(world, instance, FIRST)
    fork = await world.settled(await world.forks.fork(instance, "Fork"))
    world.gateway.handler = as_openclaw(world, fork)
    await send(world, fork, FIRST, *output, SECOND)
    assert sent_texts(world) == ["Second."]


async def test_a_refused_message_is_not_recorded(world: World) -> None:
    instance = await world.created()
    world.gateway.handler = scripted.failing(400, failed("invalid request"))
    with pytest.raises(Exception, match="could not be taken"):
        await respond(world, instance, {"model": CLAUDE, "input": [FIRST]})
    assert world.histories.latest(instance.id, MAIN_KEY).items == ()
