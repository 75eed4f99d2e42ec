"""Registering vision models with sandboxes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.domain import ModelProvider, SandboxId
from chowder_local.core.errors.agents import GatewayUnavailable
from chowder_local.instances.conversations.models import VisionModels
from chowder_local.openclaw.gateway import Gateway, open_gateways
from chowder_local.openclaw.models import ModelRoute
from tests.scripted.gateway import ScriptedGateway, ok, refused
from tests.scripted.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.scripted.gateway import RpcAnswer

SANDBOX, OTHER = SandboxId("chowder-1"), SandboxId("chowder-2")
GPT, MINI = (ModelRoute(ModelProvider.OPENAI, model) for model in ("gpt-4o", "gpt-4o-mini"))


class ConfigKeepingGateway(ScriptedGateway):
    """Stores the configuration that patches make."""

    def _rpc(self, address: str, method: str, params: dict[str, Any]) -> RpcAnswer:
        status, body = super()._rpc(address, method, params)
        if method == "config.patch" and status == 200:
            config = json.loads(params["raw"])
            self.rpc_answers["config.get"] = ok({"hash": "h", "config": config})
        return status, body

    @property
    def known(self) -> list[list[str]]:
        """The registered models after each patch."""
        patches = [json.loads(params["raw"]) for params in self.called("config.patch")]
        models = [patch["models"]["providers"]["chowder-openai"]["models"] for patch in patches]
        return [[model["id"] for model in each] for each in models]


@pytest.fixture
def scripted() -> ConfigKeepingGateway:
    return ConfigKeepingGateway()


@pytest.fixture
async def gateway(scripted: ConfigKeepingGateway) -> AsyncIterator[Gateway]:
    async with serve(scripted) as url, open_gateways() as forwarder:
        yield Gateway(forwarder, url, "token")


async def test_models_that_get_images_at_the_same_time_are_all_registered(
    scripted: ConfigKeepingGateway, gateway: Gateway
) -> None:
    vision_models = VisionModels()
    await asyncio.gather(
        *(vision_models.ensure_registered(SANDBOX, gateway, route) for route in (GPT, MINI) * 2)
    )
    assert scripted.known == [["gpt-4o"], ["gpt-4o", "gpt-4o-mini"]]


async def test_each_sandbox_has_its_own_registrations(
    scripted: ConfigKeepingGateway, gateway: Gateway
) -> None:
    vision_models = VisionModels()
    await vision_models.ensure_registered(SANDBOX, gateway, GPT)
    scripted.rpc_answers.clear()
    await vision_models.ensure_registered(OTHER, gateway, GPT)
    assert scripted.known == [["gpt-4o"], ["gpt-4o"]]


async def test_registrations_of_an_earlier_server_process_are_kept(
    scripted: ConfigKeepingGateway, gateway: Gateway
) -> None:
    await VisionModels().ensure_registered(SANDBOX, gateway, GPT)
    await VisionModels().ensure_registered(SANDBOX, gateway, GPT)
    assert len(scripted.known) == 1


async def test_an_evicted_model_is_looked_up_again(
    scripted: ConfigKeepingGateway, gateway: Gateway
) -> None:
    vision_models = VisionModels(capacity=1)
    for route in (GPT, MINI, GPT):
        await vision_models.ensure_registered(SANDBOX, gateway, route)
    assert len(scripted.called("config.patch")) == 2
    assert len(scripted.called("config.get")) == 3


async def test_a_concurrent_change_of_the_configuration_is_kept(
    scripted: ConfigKeepingGateway, gateway: Gateway
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


async def test_a_failed_registration_is_retried_with_the_next_image(
    scripted: ConfigKeepingGateway, gateway: Gateway
) -> None:
    vision_models = VisionModels()
    scripted.rpc_answers["config.get"] = refused("not now", 503)
    with pytest.raises(GatewayUnavailable):
        await vision_models.ensure_registered(SANDBOX, gateway, GPT)
    scripted.rpc_answers.clear()
    await vision_models.ensure_registered(SANDBOX, gateway, GPT)
    assert scripted.known == [["gpt-4o"]]
