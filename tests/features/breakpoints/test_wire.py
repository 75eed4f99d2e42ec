"""Breakpoints, where model calls of sandboxes are held between two real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest

from chowder_local.core.errors.process import DataDirUnusable
from chowder_local.core.errors.requests import HoldEnded
from chowder_local.core.errors.upstream import ProviderFailed
from chowder_local.core.events import EventType
from chowder_local.features.breakpoints import service as breakpoints_module
from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints, HeldCall
from chowder_local.features.budgets.model import Spent
from chowder_local.features.budgets.service import Budgets
from chowder_local.relay import service
from chowder_local.relay.holds import Release
from chowder_local.relay.scripts.rules import Action
from tests.accounting import open_descriptors
from tests.features.budgets.test_wire import ASK, Scene, open_scene
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from tests.features.budgets.test_wire import Serve


@pytest.fixture
async def scene(tmp_path: Path, serve: Serve) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path, serve) as scene:
        yield scene


def hold(scene: Scene, *, once: bool = False, **match: Any) -> None:
    scene.world.feature(Breakpoints).put(scene.agent.id, BreakpointMatch(**match), once=once)


async def begun(scene: Scene, **changes: Any) -> tuple[asyncio.Task[httpx.Response], HeldCall]:
    """A model call that is held."""
    task = asyncio.create_task(scene.call(**changes))
    await eventually(lambda: bool(held_calls(scene)), "it is held")
    (held,) = held_calls(scene)
    return task, held


def held_calls(scene: Scene) -> list[HeldCall]:
    return scene.world.feature(Breakpoints).held(scene.world.organization_id)


def resume(scene: Scene, held: HeldCall, **how: Any) -> None:
    scene.world.feature(Breakpoints).resume(
        scene.world.organization_id, held.call.id, Release(**how)
    )


async def test_a_held_call_reaches_the_provider_once_it_is_let_go(scene: Scene) -> None:
    hold(scene)
    task, held = await begun(scene)
    assert scene.provider.calls == 0
    resume(scene, held)
    assert (await task).json()["usage"]["output_tokens"] == 1000
    assert (scene.provider.calls, held_calls(scene)) == (1, [])
    kinds = [(each.type, each.members.get("how")) for each in scene.world.events.after(0)]
    assert (EventType.CALL_HELD, None) in kinds
    assert (EventType.CALL_RELEASED, "continued") in kinds


async def test_an_edited_request_is_what_the_provider_and_the_log_get(scene: Scene) -> None:
    hold(scene)
    task, held = await begun(scene)
    resume(scene, held, content={**ASK, "max_tokens": 7, "stream": True})
    assert "message_delta" in (await task).text
    assert json.loads(held.call.body)["max_tokens"] == 7


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_instead_costs_nothing(scene: Scene, is_streamed: bool) -> None:
    budget = await scene.limit(usd=5)
    hold(scene)
    task, held = await begun(scene, stream=is_streamed)
    resume(scene, held, action=Action(text="It is sunny."))
    answer = (await task).text
    assert "sunny" in answer
    assert held.call.source == "breakpoint"
    assert (budget.spent.usd, budget.spent.model_calls, scene.provider.calls) == (0, 1, 0)


async def test_an_error_instead_is_the_providers(scene: Scene) -> None:
    hold(scene)
    task, held = await begun(scene)
    resume(scene, held, action=Action(error=429, message="Slow down."))
    failure = scene.error_of(await task)
    assert isinstance(failure, ProviderFailed)
    assert (failure.status, failure.reason) == (429, "Slow down.")


@pytest.mark.parametrize(
    ("match", "is_held"),
    [
        ({"text": "hi"}, True), ({"text": "bye"}, False), ({"model": "claude-*"}, True),
        ({"model": "gpt-*"}, False), ({"tool": "exec"}, False), ({"call_number": 1}, True),
        ({"call_number": 2}, False),
    ],
)  # fmt: skip
async def test_only_calls_that_match_are_held(
    scene: Scene, match: dict[str, Any], is_held: bool
) -> None:
    hold(scene, **match)
    if is_held:
        task, held = await begun(scene, trace="a" * 32)
        resume(scene, held)
        assert (await task).status_code == 200
    else:
        assert (await scene.call("a" * 32)).status_code == 200


async def test_a_breakpoint_for_once_holds_one_call(scene: Scene) -> None:
    hold(scene, once=True)
    task, held = await begun(scene)
    assert (await scene.call()).status_code == 200
    resume(scene, held)
    assert (await task).status_code == 200


async def test_a_held_stream_gets_comments_and_then_its_answer_or_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for action, words in (
        (None, "message_delta"),
        (Action(text="It is sunny."), "sunny"),
        (Action(error=500, message="Down."), "relay-failure-"),
    ):
        async with held_stream(scene, monkeypatch) as (chunks, held):
            resume(scene, held, action=action)
            text = "".join([each async for each in chunks])
        assert words in text
    assert held_calls(scene) == []


async def test_a_call_that_nobody_lets_go_is_refused_after_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakpoints_module, "MAX_HOLD_S", 0.05)
    hold(scene)
    failure = scene.error_of(await scene.call())
    assert isinstance(failure, HoldEnded)
    assert "held a model call of the agent, and nobody has let it go on" in str(failure)
    assert (scene.provider.calls, held_calls(scene)) == (0, [])


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_servers_end_lets_held_calls_go_with_words(
    scene: Scene, is_streamed: bool
) -> None:
    hold(scene)
    # Held streams wait for fifteen seconds to get their first comment.
    task, _ = await begun(scene, stream=is_streamed)
    scene.world.shutdown.begin()
    failure = scene.error_of(await task)
    assert "the server is stopping" in str(failure)


async def test_a_deleted_agents_breakpoint_and_held_calls_are_gone(scene: Scene) -> None:
    hold(scene)
    task, _ = await begun(scene)
    await scene.world.lifecycle.delete(scene.world.organization_id, scene.agent.id)
    assert (await task).status_code == 400
    assert held_calls(scene) == []
    assert not scene.world.feature(Breakpoints).is_active(scene.agent.id)


async def test_a_sandbox_that_leaves_is_held_no_more_and_its_call_counts_for_nothing(
    scene: Scene,
) -> None:
    budget = await scene.limit(usd=5)
    hold(scene)
    task, held = await begun(scene)
    task.cancel()
    await eventually(lambda: not held_calls(scene), "it is off the list")
    assert held.until - held.held_at == timedelta(minutes=10)
    report = await scene.world.cost_reports.report(scene.world.organization_id, limit=1)
    assert (budget.spent, report.totals.counts.calls) == (Spent(), 0)


@asynccontextmanager
async def held_stream(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[AsyncIterator[str], HeldCall]]:
    """The rest of a stream that has got a comment, and its call."""
    monkeypatch.setattr(service, "COMMENT_S", 0.01)
    hold(scene)
    token = scene.world.secret_box.relay_token(scene.agent.sandbox_id)
    url, headers = f"{scene.url}/anthropic/v1/messages", {"x-api-key": token}
    sent = scene.http.stream("POST", url, json={**ASK, "stream": True}, headers=headers)
    async with sent as answer:
        chunks = answer.aiter_text()
        assert await anext(chunks) == ": held at a breakpoint\n\n"
        (held,) = held_calls(scene)
        yield chunks, held


async def test_a_held_stream_whose_sandbox_leaves_after_it_was_let_go_is_settled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = await scene.limit(usd=5)
    scene.provider.may_answer.clear()
    async with held_stream(scene, monkeypatch) as (_, held):
        resume(scene, held)
        await eventually(lambda: scene.provider.calls == 1, "it is at the provider")
        reserved = budget.reserved
    await eventually(lambda: budget.reserved == Spent(), "it is settled")
    assert budget.spent == reserved
    assert reserved.model_calls == 1
    assert held.call.outcome == "client_disconnected"


async def test_a_held_stream_that_cannot_go_on_ends_with_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.limit(usd=5)
    full = DataDirUnusable("The disk is full.")
    async with held_stream(scene, monkeypatch) as (chunks, held):
        queries = scene.world.feature(Budgets).queries
        monkeypatch.setattr(queries, "save", AsyncMock(side_effect=full))
        resume(scene, held)
        text = "".join([each async for each in chunks])
    assert "relay-failure-" in text
    assert (held.call.outcome, scene.provider.calls) == ("failed", 0)


async def test_a_thousand_held_calls_leave_nothing_behind(scene: Scene) -> None:
    hold(scene)
    loads = []
    for _ in range(20):
        tasks = [asyncio.create_task(scene.call()) for _ in range(50)]
        await eventually(lambda: len(held_calls(scene)) == 50, "they are held")
        held = held_calls(scene)
        for each in held:
            resume(scene, each, action=Action(text="Yes."))
        assert {(await each).status_code for each in tasks} == {200}
        loads.append((len(asyncio.all_tasks()), open_descriptors() or 0))
    breakpoints = scene.world.feature(Breakpoints)
    assert (breakpoints._held, scene.provider.calls) == ({}, 0)
    assert not scene.world.shutdown._ends
    assert not breakpoints.changes.has_viewers
    # The connections of fifty calls at once come and go.
    assert all(now <= first + 50 for now, first in zip(loads[-1], loads[0], strict=True)), loads
