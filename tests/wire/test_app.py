"""A whole server as `open_services` opens it, on a scripted engine: what outlives its end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from chowder_local.app import relay_app, server
from chowder_local.app.server import Machine, open_services
from chowder_local.core.domain import OFFLINE_KEY, ModelProvider
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import EngineAddress
from chowder_local.engine.networks import SandboxNetwork, SandboxNetworks
from chowder_local.features.breakpoints.model import BreakpointMatch
from chowder_local.features.breakpoints.service import Breakpoints
from tests.scripted.engine import ScriptedEngine
from tests.scripted.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from typing import Any

    import pytest

    from chowder_local.core.domain import Instance
    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.services import Services

CALL = {"model": "gpt-4o", "input": [{"role": "user", "content": "Hi"}]}
UNASKED_CALL = {"model": "gpt-4o", "input": [{"role": "user", "content": "[cron:1 daily] Go"}]}


class Engine(ScriptedEngine):
    """What a server asks of a real one beyond `Engine`."""

    volume_jobs = None
    relay_port = 0

    async def facts(self, _: EngineAddress) -> EngineFacts:
        raise EngineUnavailable("It is scripted.")

    async def open_relay(self, port: int) -> None:
        self.relay_port = port


@asynccontextmanager
async def open_server(
    data_dir: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Services]:
    networks = SandboxNetworks(SandboxNetwork("open", "127.0.0.1", "127.0.0.1"), None)

    async def open_engine(*_: object) -> tuple[Engine, SandboxNetworks]:
        return engine, networks

    monkeypatch.setattr(server, "open_engine", open_engine)
    # Any that is free.
    monkeypatch.setattr(relay_app, "RELAY_PORT", 0)
    machine = Machine(
        EngineAddress("unix:///nowhere", "the test"), "none",
        dict.fromkeys(ModelProvider, OFFLINE_KEY), {},
    )  # fmt: skip
    settings = Settings.read({}, data_dir=data_dir, warm_pool_size=0)
    async with open_services(settings, machine) as services:
        yield services


async def called(
    services: Services, engine: Engine, instance: Instance, body: Mapping[str, Any]
) -> httpx.Response:
    """The answer to a model call of an agent."""
    token = services.secret_box.relay_token(instance.sandbox_id)
    url = f"http://127.0.0.1:{engine.relay_port}/openai/responses"
    async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
        return await client.post(url, json=body, headers={"Authorization": f"Bearer {token}"})


async def test_what_was_used_is_told_after_the_server_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path)
    async with open_server(tmp_path, engine, monkeypatch) as services:
        caller = await services.authentication.caller((tmp_path / "default.key").read_text())
        instance = await services.creation.create(caller.organization_id, name="Ada")
        answer = await called(services, engine, instance, CALL)
        assert answer.status_code == 200, answer.text
    async with open_server(tmp_path, engine, monkeypatch) as services:
        report = await services.cost_reports.report(caller.organization_id, instance.id, limit=1)
        assert report.totals.counts.calls == 1


async def test_the_end_amid_a_turn_that_no_message_began_leaves_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path)
    async with open_server(tmp_path, engine, monkeypatch) as services:
        caller = await services.authentication.caller((tmp_path / "default.key").read_text())
        instance = await services.creation.create(caller.organization_id, name="Ada")
        services.feature(Breakpoints).put(instance.id, BreakpointMatch(), once=False)
        calling = asyncio.create_task(called(services, engine, instance, UNASKED_CALL))
        await eventually(lambda: services.traces.in_progress(instance.id), "its turn has begun")
    assert "The server is stopping." in (await calling).text
    assert [each.message for each in caplog.records if each.exc_info] == []
