"""The data directory of a real server: nobody else can read its files, and it can be moved."""

from __future__ import annotations

import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.containers import containers, networks, volumes
from tests.e2e.copies import local
from tests.e2e.quick_agents import made, open_quick_server, remembers
from tests.e2e.serving import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    import docker

pytestmark = pytest.mark.docker

LIVING = {"chowder.db", "chowder.db-wal", "chowder.db-shm", "server.json", "server.lock",
          "server.log", "secret.key", "default.key", "store.id"}  # fmt: skip


def open_to_others(folder: Path) -> dict[str, str]:
    """What group or others may do anything with, by its path."""
    modes = {path: path.lstat().st_mode for path in [folder, *folder.rglob("*")]}
    return {
        str(path): stat.filemode(mode)
        for path, mode in modes.items()
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    }


@pytest.mark.parametrize(
    ("umask", "is_there"),
    [
        pytest.param(0o000, True, id="mounted"),
        pytest.param(0o022, False, id="made"),
    ],
)
def test_all_that_a_server_keeps_is_its_owners_alone(
    tmp_path: Path, umask: int, is_there: bool
) -> None:
    server = ServerProcess(tmp_path / "data", {"CHOWDER_LOG_LEVEL": "debug"})
    if is_there:
        server.data_dir.mkdir()
        server.data_dir.chmod(0o777)

    def call(*words: str) -> None:
        command = [*server.command(), *words]
        done = subprocess.run(
            command, env=server.env, umask=umask, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    try:
        call("up", "--detach", "--port", str(server.port))
        with Api(server.base_url, server.key) as api:
            assert api.patch("organization", json={"name": "Mine"}).status_code == 200
        assert {path.name for path in server.data_dir.iterdir()} >= LIVING
        assert open_to_others(server.data_dir) == {}
        call("down")
        assert open_to_others(server.data_dir) == {}
    finally:
        call("reset", "--yes")


def test_agents_move_with_the_data_directory_to_another_place_and_with_snapshots_to_another_machine(
    tmp_path: Path, engine: docker.DockerClient, request: pytest.FixtureRequest
) -> None:
    with open_quick_server(tmp_path, engine, request.config) as server:
        with Api(server.base_url, server.key) as api:
            agent = made(api)
        server.down()
        server.data_dir = server.data_dir.rename(tmp_path / "elsewhere")
        server.up()
        with Api(server.base_url, server.key) as api:
            remembers(api, agent)
            body = {"name": "moving"}
            snapshot = local(api, "POST", f"instances/{agent}/snapshots", json=body).json()
        server.down()
        # The engine of another machine has nothing of it.
        for container in containers(engine, server.store_id):
            container.remove(force=True)
        for volume in volumes(engine, server.store_id):
            volume.remove()
        for network in networks(engine, server.store_id):
            network.remove()
        server.data_dir = server.data_dir.rename(tmp_path / "machine")
        server.up()
        with Api(server.base_url, server.key) as api:
            assert "Restore a snapshot" in api.until(agent, "error")["error_message"]
            local(api, "POST", f"instances/{agent}/restore", json={"snapshot_id": snapshot["id"]})
            api.until(agent, "running")
            remembers(api, agent)
