"""The client's calls for snapshots, forks and exports, against a real server's routes."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest

from chowder_local.client import Client
from chowder_local.core.errors.process import ApiRefused
from tests.api.conftest import app_of
from tests.scripted.homes import archive, contents
from tests.scripted.serving import serve
from tests.scripted.world import World, open_world

if TYPE_CHECKING:
    from pathlib import Path

NOTES = ".openclaw/workspace/notes.md"


async def test_the_client_takes_and_moves_copies(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        instance = await world.created()
        world.engine.put_home(instance.sandbox_id, archive({NOTES: b"teal"}))
        async with serve(app_of(world)) as url:
            await asyncio.to_thread(copied, url, world, instance.id)


def copied(url: str, world: World, instance_id: str) -> None:
    with Client(url, world.key) as client:
        snapshot = client.take_snapshot(instance_id, "before")
        assert client.snapshots() == client.snapshots(instance_id) == [snapshot]
        assert client.snapshot(snapshot["id"]) == snapshot
        forks = [client.fork(instance_id, "a"), client.fork_snapshot(snapshot["id"], "b")]
        content = b"".join(client.export(instance_id))
        assert contents(content)[NOTES] == b"teal"
        forks += [client.import_instance(io.BytesIO(content), "c")]
        assert [client.wait_until_running(each["id"])["name"] for each in forks] == ["a", "b", "c"]
        assert client.restore(instance_id, snapshot["id"])["status"] == "provisioning"
        client.wait_until_running(instance_id)
        client.delete_snapshot(snapshot["id"])
        with pytest.raises(ApiRefused, match="Snapshot not found"):
            client.snapshot(snapshot["id"])
