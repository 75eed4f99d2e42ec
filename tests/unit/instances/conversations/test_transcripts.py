"""Reading sessions and transcripts of running and stopped instances."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import InstanceStatus, SandboxState
from chowder_local.core.errors.requests import InstanceStateWrong, SessionNotFound
from chowder_local.core.errors.sandboxes import SandboxPaused
from chowder_local.openclaw.session_keys import MAIN_KEY, session_key
from tests.scripted.programs import done

if TYPE_CHECKING:
    from tests.scripted.world import World

HI = {"position": 0, "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
PAGE = done(is_known=True, messages=[HI], has_more=False)
UNKNOWN = done(is_known=False, messages=[], has_more=False)


def kept(key: str, used_s: int) -> dict[str, Any]:
    return {"key": key, "created_at": 1000, "updated_at": used_s * 1000, "messages": 2}


async def read(world: World, instance: Any, key: str = MAIN_KEY) -> int:
    result = await world.conversation_reader.transcript(instance, key, limit=9, before=None)
    return len(result.turns)


async def test_a_running_instance_is_read_inside_its_sandbox(world: World) -> None:
    world.programs.answers["read"] = PAGE
    assert await read(world, await world.created()) == 1
    assert world.beside.calls == []


@pytest.mark.parametrize("status", [InstanceStatus.STOPPED, InstanceStatus.ERROR])
async def test_a_stopped_instance_is_read_from_its_volume(
    world: World, status: InstanceStatus
) -> None:
    world.beside.answers["read"] = PAGE
    assert await read(world, await world.placed(status, state=SandboxState.EXITED)) == 1
    assert world.programs.calls == []


async def test_an_instance_that_is_being_stopped_can_be_read(world: World) -> None:
    seen = await world.created()
    await world.lifecycle.stop(world.organization_id, seen.id)
    world.programs.failing = SandboxPaused()
    world.beside.answers["read"] = PAGE
    assert await read(world, seen) == 1


async def test_an_instance_that_was_just_started_is_read_inside_its_sandbox(world: World) -> None:
    seen = await world.stopped()
    await world.lifecycle.start(world.organization_id, seen.id)
    world.programs.answers["read"] = PAGE
    assert await read(world, seen) == 1


@pytest.mark.parametrize("status", [InstanceStatus.PROVISIONING, InstanceStatus.TERMINATED])
async def test_an_instance_without_conversations_raises(
    world: World, status: InstanceStatus
) -> None:
    instance = await world.placed(status)
    with pytest.raises(InstanceStateWrong):
        await world.conversation_reader.sessions(instance)


async def test_a_stopped_instance_keeps_its_status_during_a_read(world: World) -> None:
    instance = await world.stopped()
    world.beside.answers["read"] = PAGE
    async with world.agents.holding(instance):
        reading = asyncio.ensure_future(read(world, instance))
        for _ in range(100):
            await asyncio.sleep(0)
        assert world.beside.calls == []
    assert await reading == 1


async def test_the_main_session_is_first_and_always_there(world: World) -> None:
    world.programs.answers["list"] = done(sessions=[])
    (main,) = await world.conversation_reader.sessions(await world.created())
    assert (main.is_main, main.key, main.name, main.messages) == (True, MAIN_KEY, None, 0)
    assert main.last_used_at is None


async def test_stored_sessions_and_names_are_merged(world: World) -> None:
    instance = await world.created()
    alpha = session_key("a/b é")
    now = datetime(2026, 5, 4, tzinfo=UTC)
    await world.sessions.remember(instance.id, "a/b é", alpha, now)
    await world.sessions.remember(instance.id, "unheard", session_key("unheard"), now)
    world.programs.answers["list"] = done(
        sessions=[
            kept("agent:main:telegram:direct:5", 50) | {"channel": "telegram"},
            {"key": "agent:main:timeless"},
            kept(MAIN_KEY, 20),
            kept(alpha, 10),
        ]
    )
    result = await world.conversation_reader.sessions(instance)
    assert [
        (each.name, each.key.removeprefix("agent:main:"), each.messages) for each in result
    ] == [
        (None, "main", 2),
        ("a/b é", alpha.removeprefix("agent:main:"), 2),
        ("unheard", session_key("unheard").removeprefix("agent:main:"), 0),
        (None, "telegram:direct:5", 2),
        (None, "timeless", 0),
    ]
    assert (result[1].created_at, result[1].last_used_at) == (datetime.fromtimestamp(1, UTC), now)
    assert result[3].channel == "telegram"


async def test_an_unknown_session_is_not_found(world: World) -> None:
    instance = await world.created()
    world.programs.answers["read"] = UNKNOWN
    with pytest.raises(SessionNotFound):
        await read(world, instance, session_key("nope"))
    assert await read(world, instance) == 0
    await world.sessions.remember(instance.id, "n", session_key("n"), world.clock.now)
    assert await read(world, instance, session_key("n")) == 0


async def test_sessions_and_a_transcript_come_from_one_read(world: World) -> None:
    instance = await world.created()
    await world.sessions.remember(instance.id, "deck", "agent:main:s-1", world.clock.now)
    world.programs.answers |= {"list": done(sessions=[kept("agent:main:irc:5", 5)]), "read": PAGE}
    sessions, result = await world.conversation_reader.sessions_and_transcript(
        instance, MAIN_KEY, limit=9, before=None, text_max=40
    )
    assert [each.key for each in sessions] == [MAIN_KEY, "agent:main:s-1", "agent:main:irc:5"]
    assert [turn.text for turn in result.turns] == ["Hi"]
    (asked,) = world.programs.called("both")
    assert (asked["limit"], asked["textMax"]) == (9, 40)
    world.programs.answers["read"] = UNKNOWN
    for key in (MAIN_KEY, "agent:main:s-1"):
        _, result = await world.conversation_reader.sessions_and_transcript(
            instance, key, limit=9, before=None, text_max=40
        )
        assert not result.turns
    with pytest.raises(SessionNotFound):
        await world.conversation_reader.sessions_and_transcript(
            instance, "agent:x", limit=9, before=None, text_max=40
        )
