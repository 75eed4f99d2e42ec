"""Warm-ups: their turns, and their failures."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable, RpcRefused
from chowder_local.openclaw.gateway import Gateway, open_gateways
from chowder_local.openclaw.sandbox_exec import Control
from chowder_local.openclaw.shortcuts import WARM_UP
from chowder_local.openclaw.warmup import TURN_COUNT, WarmUp
from tests.scripted.gateway import ScriptedGateway, breaking_off
from tests.scripted.programs import ScriptedPrograms, done, undone
from tests.scripted.serving import serve
from tests.scripted.shortcuts import all_but, all_fit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chowder_local.openclaw.shortcuts import MayTake

SANDBOX = SandboxId("chowder-1")
ERASED = done(ids=[], is_found=False, is_truncated=True)


@asynccontextmanager
async def warming(
    gateway: ScriptedGateway,
    deleted: dict[str, Any],
    erased: dict[str, Any] | None = None,
    allows: MayTake = all_fit,
) -> AsyncIterator[tuple[WarmUp, Gateway]]:
    programs = ScriptedPrograms({"sessions.delete": deleted, "erase": erased or ERASED})
    control = Control(programs, lambda _: "token")
    async with serve(gateway) as url, open_gateways() as forwarder:
        yield WarmUp(control, programs, "/data", allows), Gateway(forwarder, url, "token")


async def test_a_warm_up_takes_turns_and_reads_the_configuration() -> None:
    scripted = ScriptedGateway()
    async with warming(scripted, done()) as (warm_up, gateway):
        await warm_up.warm(SANDBOX, gateway, "model")
    assert [each.headers["x-openclaw-model"] for each in scripted.messages] == (
        ["model"] * TURN_COUNT
    )
    assert scripted.called("config.get") == [{}]


async def test_an_answer_that_breaks_off_is_a_failure() -> None:
    async with warming(ScriptedGateway(handler=breaking_off), done()) as (warm_up, gateway):
        with pytest.raises(GatewayUnavailable):
            await warm_up.warm(SANDBOX, gateway, "model")


async def test_a_conversation_that_cannot_be_deleted_is_a_failure() -> None:
    async with warming(ScriptedGateway(), undone("not now")) as (warm_up, gateway):
        with pytest.raises(RpcRefused, match="not now"):
            await warm_up.warm(SANDBOX, gateway, "model")


async def test_a_conversation_that_cannot_be_erased_is_a_failure() -> None:
    scripted = ScriptedGateway()
    async with warming(scripted, done(), undone("Remaining: t")) as (warm_up, gateway):
        with pytest.raises(GatewayUnavailable, match="could not be erased: Remaining: t"):
            await warm_up.warm(SANDBOX, gateway, "model")


async def test_a_conversation_that_could_not_be_erased_is_not_begun() -> None:
    scripted = ScriptedGateway()
    async with warming(scripted, done(), allows=all_but(WARM_UP)) as (warm_up, gateway):
        await warm_up.warm(SANDBOX, gateway, "model")
    assert scripted.messages == []


async def test_text_that_stays_for_a_while_is_told(caplog: pytest.LogCaptureFixture) -> None:
    left = done(ids=[], is_found=True, is_truncated=False)
    async with warming(ScriptedGateway(), done(), left) as (warm_up, gateway):
        await warm_up.warm(SANDBOX, gateway, "model")
    assert "has the text of the warm-up" in caplog.text


async def test_a_conversation_that_is_written_down_again_and_again_is_a_failure() -> None:
    again = done(ids=["1"], is_found=True, is_truncated=True)
    async with warming(ScriptedGateway(), done(), again) as (warm_up, gateway):
        with pytest.raises(GatewayUnavailable, match="still writes down the warm-up"):
            await warm_up.warm(SANDBOX, gateway, "model")
