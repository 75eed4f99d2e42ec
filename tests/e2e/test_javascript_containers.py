"""The JavaScript package's testcontainers module, in a project that has the packed package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.settings import Settings
from chowder_local.engine.server_container import build_server, is_current
from tests.e2e.node import CLIENTS, RUN_TIMEOUT_S, node_modules, tool
from tests.e2e.quick_image import quick_image
from tests.e2e.serving import bare_environment
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker

pytestmark = [pytest.mark.docker, pytest.mark.nightly]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "testcontainers" / "weather-desk.test.mjs"
SETTINGS = "withEnvironment({"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the packed package and testcontainers; the engine has the server's image."""
    if not is_current(Settings(), os.environ):
        build_server(Settings(), print, env=dict(os.environ))
    folder = tmp_path_factory.mktemp("project")
    command = [tool("npm"), "pack", "--silent", "--ignore-scripts", f"--pack-destination={folder}"]
    subprocess.run(command, cwd=ROOT / "js", check=True, timeout=RUN_TIMEOUT_S)
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    modules = folder / "node_modules"
    modules.mkdir()
    (folder / "package").rename(modules / "chowder-local")
    (modules / "testcontainers").symlink_to(node_modules() / "testcontainers")
    return folder


def names(engine: docker.DockerClient) -> set[str]:
    """Of all containers, volumes and networks."""
    containers = {each.name for each in engine.containers.list(all=True, ignore_removed=True)}
    volumes = {each.name for each in engine.volumes.list()}
    networks = {each.name for each in engine.networks.list()}
    return {str(name) for name in containers | volumes | networks}


def test_a_stopped_server_and_that_of_a_killed_process_leave_nothing(
    engine: docker.DockerClient, project: Path, image: str
) -> None:
    shutil.copy(CLIENTS / "containers.mjs", project)
    process = subprocess.Popen(
        [tool("node"), "containers.mjs"], cwd=project, text=True, stdout=subprocess.PIPE,
        env=bare_environment() | {"CHOWDER_IMAGE": image},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            stopped, running = (json.loads(process.stdout.readline()) for _ in range(2))
            assert not set(stopped.values()) & names(engine)
            sandbox = engine.containers.get(running["sandbox"])
            made = {*running.values(), *sandbox.attrs["NetworkSettings"]["Networks"]}
            assert made <= names(engine)
        finally:
            process.kill()
    eventually(lambda: not made & names(engine), "all that the killed process had is removed")


# Its agent is a quick one, which asks the offline model with every message.
def test_the_example_passes_on_a_server_of_its_own(
    engine: docker.DockerClient, project: Path
) -> None:
    with quick_image(engine, QUICK_GATEWAY_ASKS="yes") as image:
        example = EXAMPLE.read_text()
        assert SETTINGS in example
        own = example.replace(SETTINGS, f'{SETTINGS} CHOWDER_IMAGE: "{image}",')
        (project / EXAMPLE.name).write_text(own)
        done = subprocess.run(
            [tool("node"), "--test", EXAMPLE.name], cwd=project, env=bare_environment(),
            capture_output=True, text=True, check=False, timeout=RUN_TIMEOUT_S,
        )  # fmt: skip
    assert "# pass 1\n" in done.stdout, done.stdout + done.stderr
