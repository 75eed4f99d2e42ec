"""The files of a real server, from its first start to its end: nobody else can read one of them."""

from __future__ import annotations

import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.serving import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

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
        pytest.param(0o022, False, id="made", marks=pytest.mark.slow),
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
