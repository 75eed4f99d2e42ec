"""A whole server as `open_services` opens it, on a scripted engine: what outlives its end."""

from __future__ import annotations

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
from tests.scripted.engine import ScriptedEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from chowder_local.engine.engine_facts import EngineFacts
    from chowder_local.services import Services

CALL = {"model": "gpt-4o", "input": [{"role": "user", "content": "Hi"}]}


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


async def test_what_was_used_is_told_after_the_server_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tmp_path)
    async with open_server(tmp_path, engine, monkeypatch) as services:
        caller = await services.authentication.caller((tmp_path / "default.key").read_text())
        instance = await services.creation.create(caller.organization_id, name="Ada")
        headers = {
            "Authorization": f"Bearer {services.secret_box.relay_token(instance.sandbox_id)}"
        }
        url = f"http://127.0.0.1:{engine.relay_port}/openai/responses"
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(url, json=CALL, headers=headers)
        assert answer.status_code == 200, answer.text
    async with open_server(tmp_path, engine, monkeypatch) as services:
        report = await services.cost_reports.report(caller.organization_id, instance.id, limit=1)
        assert report.totals.counts.calls == 1
