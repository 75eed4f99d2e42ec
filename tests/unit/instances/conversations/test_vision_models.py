"""Which models are made known as seeing ones, and how often."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider, SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.instances.conversations.vision_models import VisionModels
from chowder_local.openclaw.gateway import Gateway, open_gateways
from chowder_local.openclaw.models import ModelRoute
from tests.scripted.gateway import ScriptedGateway, ok, refused
from tests.scripted.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SANDBOX, OTHER = SandboxId("chowder-1"), SandboxId("chowder-2")
GPT, MINI = (ModelRoute(ModelProvider.OPENAI, model) for model in ("gpt-4o", "gpt-4o-mini"))


class Remembering(ScriptedGateway):
    """Keeps the configuration that it is patched with."""

    def _rpc(self, method: str, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, body = super()._rpc(method, params)
        if method == "config.patch" and status == 200:
            config = json.loads(params["raw"])
            self.rpc_answers["config.get"] = ok({"hash": "h", "config": config})
        return status, body

    @property
    def known(self) -> list[list[str]]:
        """The models that each patch made known."""
        patches = [json.loads(params["raw"]) for params in self.called("config.patch")]
        models = [patch["models"]["providers"]["chowder-openai"]["models"] for patch in patches]
        return [[model["id"] for model in each] for each in models]


@pytest.fixture
def scripted() -> Remembering:
    return Remembering()


@pytest.fixture
async def gateway(scripted: Remembering) -> AsyncIterator[Gateway]:
    async with serve(scripted) as url, open_gateways() as forwarder:
        yield Gateway(forwarder, url, "token")


async def test_models_that_are_sent_images_at_once_are_all_made_known(
    scripted: Remembering, gateway: Gateway
) -> None:
    vision_models = VisionModels()
    await asyncio.gather(
        *(vision_models.ensure_registered(SANDBOX, gateway, route) for route in (GPT, MINI) * 2)
    )
    assert scripted.known == [["gpt-4o"], ["gpt-4o", "gpt-4o-mini"]]


async def test_each_sandbox_has_models_of_its_own(scripted: Remembering, gateway: Gateway) -> None:
    vision_models = VisionModels()
    await vision_models.ensure_registered(SANDBOX, gateway, GPT)
    scripted.rpc_answers.clear()
    await vision_models.ensure_registered(OTHER, gateway, GPT)
    assert scripted.known == [["gpt-4o"], ["gpt-4o"]]


async def test_what_an_earlier_server_made_known_is_known(
    scripted: Remembering, gateway: Gateway
) -> None:
    await VisionModels().ensure_registered(SANDBOX, gateway, GPT)
    await VisionModels().ensure_registered(SANDBOX, gateway, GPT)
    assert len(scripted.known) == 1


async def test_what_falls_out_is_looked_up_again(scripted: Remembering, gateway: Gateway) -> None:
    vision_models = VisionModels(capacity=1)
    for route in (GPT, MINI, GPT):
        await vision_models.ensure_registered(SANDBOX, gateway, route)
    assert len(scripted.called("config.patch")) == 2
    assert len(scripted.called("config.get")) == 3


async def test_what_another_writes_meanwhile_is_kept(
    scripted: Remembering, gateway: Gateway
) -> None:
    theirs = {"id": "theirs"}
    provider = {"chowder-openai": {"models": [theirs]}}
    scripted.rpc_answers["config.get"] = [
        ok({"hash": "1", "config": {}}),
        ok({"hash": "2", "config": {"models": {"providers": provider}}}),
    ]
    scripted.rpc_answers["config.patch"] = [refused("config changed since last load"), ok({})]
    await VisionModels().ensure_registered(SANDBOX, gateway, GPT)
    assert scripted.known == [["gpt-4o"], ["theirs", "gpt-4o"]]
    assert [patch["baseHash"] for patch in scripted.called("config.patch")] == ["1", "2"]


async def test_a_failure_is_tried_again_with_the_next_image(
    scripted: Remembering, gateway: Gateway
) -> None:
    vision_models = VisionModels()
    scripted.rpc_answers["config.get"] = refused("not now", 503)
    with pytest.raises(GatewayUnavailable):
        await vision_models.ensure_registered(SANDBOX, gateway, GPT)
    scripted.rpc_answers.clear()
    await vision_models.ensure_registered(SANDBOX, gateway, GPT)
    assert scripted.known == [["gpt-4o"]]
