"""What a warm-up leaves behind is removed, or the warm-up has failed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chowder_local.domain import SandboxId
from chowder_local.errors.agents import GatewayUnavailable
from chowder_local.openclaw.control import Control
from chowder_local.openclaw.gateway import Gateway
from chowder_local.openclaw.warmup import WarmUp
from chowder_local.upstream.forward import open_client
from tests.scripted.gateway import ScriptedGateway
from tests.scripted.local_processes import LocalProcesses
from tests.scripted.programs import ScriptedPrograms, done
from tests.scripted.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SANDBOX = SandboxId("chowder-1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def warm_up(archive: Path) -> AsyncIterator[tuple[WarmUp, Gateway]]:
    programs = ScriptedPrograms({"sessions.delete": done(archived=[str(archive)])})
    control = Control(programs, lambda _: "token")
    async with serve(ScriptedGateway()) as url, open_client(is_proxied=False) as client:
        yield WarmUp(LocalProcesses(), control), Gateway(client, url, "token")


async def test_the_archive_of_its_session_is_removed(tmp_path: Path) -> None:
    archive = tmp_path / "sessions.jsonl.deleted.zst"
    archive.write_bytes(b"Hello.")
    async with warm_up(archive) as (warming, gateway):
        await warming.of(SANDBOX, gateway, "model")
    assert list(tmp_path.iterdir()) == []


async def test_an_archive_that_stays_is_a_failure(tmp_path: Path) -> None:
    archive = tmp_path / "folder"
    archive.mkdir()
    async with warm_up(archive) as (warming, gateway):
        with pytest.raises(GatewayUnavailable, match="not forgotten"):
            await warming.of(SANDBOX, gateway, "model")
