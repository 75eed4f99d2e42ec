"""Calls to agents that a stop or a copy has suspended: they wait for its end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from chowder_local.core.errors.sandboxes import SandboxPaused
from chowder_local.openclaw import refusals
from tests.scripted.gateway import ok, refused
from tests.scripted.programs import done
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from chowder_local.core.domain import Instance
    from tests.api.conftest import Api

CONTROL_CALLS = [
    ("GET", "/local/instances/{id}/jobs", None),
    ("GET", "/local/instances/{id}/approvals/policy", None),
    ("GET", "/v1/instances/{id}/skills", None),
    ("GET", "/v1/instances/{id}/channels", None),
    ("POST", "/local/instances/{id}/sessions/main/abort", None),
    ("POST", "/v1/instances/{id}/channels/telegram/connect", {"config": {"token": "1:x"}}),
]
REFUSED = "{} unavailable during gateway suspension"


@asynccontextmanager
async def called(http: Api, instance: Instance, *call: Any) -> AsyncIterator[list[httpx.Response]]:
    """The answer of a call that is made beside the block, once that has ended."""
    method, path, body = call
    answers: list[httpx.Response] = []

    async def ask() -> None:
        more = {} if body is None else {"json": body}
        answers.append(await http.call(method, path.format(id=instance.id), **more))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        yield answers


@pytest.mark.parametrize("call", CONTROL_CALLS, ids=lambda call: call[1])
async def test_a_control_call_waits_for_the_end_of_a_copy(
    http: Api, call: tuple[str, str, Any]
) -> None:
    world = http.world
    world.programs.answers |= {"skills.status": done(skills=[]), "sessions.abort": done()}
    connected = {"accountId": "default", "running": True, "connected": True, "lifecycle": "ready"}
    status = ok({"channelAccounts": {"telegram": [connected]}})
    world.gateway.rpc_answers["channels.status"] = status
    instance = await world.created()
    undisturbed = await http.call(call[0], call[1].format(id=instance.id), json=call[2])
    async with world.agents.holding(instance) as agent:
        await agent.drain()
        probes = world.gateway.probes
        async with called(http, instance, *call) as answers:
            await eventually(lambda: world.gateway.probes > probes + 1, "it waits")
            assert not answers
            await agent.end_drain(instance.gateway_url)
    assert (answers[0].status_code, answers[0].text) == (
        undisturbed.status_code,
        undisturbed.text,
    )


@pytest.mark.parametrize("call", CONTROL_CALLS[:3], ids=lambda call: call[1])
async def test_a_control_call_that_a_copy_interrupts_is_made_again(
    http: Api, call: tuple[str, str, Any]
) -> None:
    world = http.world
    instance = await world.created()
    for method in ("cron.list", "config.get", "exec.approvals.get"):
        world.gateway.rpc_answers[method] = [refused(REFUSED.format(method), 503), ok({})]
    message = REFUSED.format("skills.status")
    world.programs.answers["skills.status"] = [
        {"ok": False, "error": {"code": "UNAVAILABLE", "message": message}},
        done(skills=[]),
    ]
    answer = await http.call(call[0], call[1].format(id=instance.id))
    assert answer.status_code == 200, answer.text


async def test_a_call_into_a_sandbox_that_is_frozen_meanwhile_is_made_again(http: Api) -> None:
    world = http.world
    instance = await world.created()
    world.programs.answers["skills.status"] = done(skills=[])
    world.programs.failing = SandboxPaused()
    probes = world.gateway.probes
    async with called(http, instance, "GET", "/v1/instances/{id}/skills", None) as answers:
        await eventually(lambda: world.gateway.probes > probes, "it waits")
        world.programs.failing = None
    assert answers[0].status_code == 200, answers[0].text


async def test_a_control_call_that_waits_for_a_stop_says_that_the_agent_is_stopped(
    http: Api,
) -> None:
    world = http.world
    instance = await world.created()
    async with world.agents.holding(instance) as agent:
        await agent.drain()
        probes = world.gateway.probes
        async with called(http, instance, *CONTROL_CALLS[0]) as answers:
            await eventually(lambda: world.gateway.probes > probes, "it waits")
            await agent.to_stopped()
    assert answers[0].status_code == 409
    assert "stopped" in answers[0].text


async def test_a_control_call_says_what_it_waits_for_if_that_takes_too_long(
    http: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = http.world
    instance = await world.created()
    monkeypatch.setattr(refusals, "SUSPENSION_TIMEOUT_S", 0.2)
    async with world.agents.holding(instance):
        world.gateway.suspended.add(world.engine.address(instance.sandbox_id))
        answer = await http.get(f"/local/instances/{instance.id}/jobs")
    assert answer.status_code == 502
    assert "takes long" in answer.text


async def test_a_control_call_ends_a_suspension_that_is_left_over(http: Api) -> None:
    world = http.world
    instance = await world.created()
    world.gateway.suspended.add(world.engine.address(instance.sandbox_id))
    assert (await http.get(f"/local/instances/{instance.id}/jobs")).status_code == 200
    assert not world.gateway.suspended
