"""A release of OpenClaw with other tables, texts and names inside; only when asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.core.settings import Settings
from chowder_local.engine import images
from chowder_local.engine.image_recipe import expected_tag, recipe_dir
from tests.e2e.api import Api
from tests.e2e.containers import container_of, inside
from tests.e2e.copies import local
from tests.e2e.serving import VERSION, ServerProcess, bare_environment
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

IS_ASKED_FOR = bool(os.environ.get("CHOWDER_TEST_RENAMED"))
"""It builds an image and boots three agents, each slowly, for what only an image can change:

CHOWDER_TEST_RENAMED=1 scripts/test tests/e2e/test_other_openclaw.py

`scripts/canary` asks for it, too, with the OpenClaw release that it tries.
"""

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not IS_ASKED_FOR, reason="CHOWDER_TEST_RENAMED asks for it"),
]

RENAMING = Path(__file__).with_name("renamed_openclaw.py")
TAG = "chowder-test/renamed:latest"
# The build's own step is what finds out that nothing fits.
DOCKERFILE = """
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
USER 0:0
COPY . /opt/openclaw/
RUN python3 /opt/openclaw/renamed_openclaw.py && sh /opt/openclaw/warm/run
USER 1000:1000
"""
OFF = {
    "prepared database", "state transfer", "transcripts", "hibernation", "exports", "prompt texts",
}  # fmt: skip


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sandbox image after its OpenClaw was renamed inside."""
    folder = tmp_path_factory.mktemp("renamed")
    shutil.copytree(recipe_dir() / "warm", folder / "warm")
    shutil.copy(RENAMING, folder)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    release = os.environ.get(VERSION)
    yield images.build_folder(
        Settings(base_image=expected_tag(Settings(), release)),
        print,
        env=bare_environment(),
        folder=folder,
        tag=TAG,
        arguments=lambda base: {"BASE_IMAGE": base},
        subject="The renamed image",
    )
    engine.images.remove(TAG)


@pytest.fixture
def server(
    image: str,
    engine: docker.DockerClient,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    settings = {"CHOWDER_IMAGE": image, "CHOWDER_OFFLINE": "true"}
    server = ServerProcess(tmp_path / "data", settings)
    with served(server, engine, request.config):
        yield server


def test_it_boots_answers_forks_and_restores_and_doctor_says_what_is_off(
    server: ServerProcess, engine: docker.DockerClient
) -> None:
    with Api(server.base_url, server.key) as api:
        original = api.created("Ada")
        api.until(original, "running")
        tables = "select count(*) from session_nodes"
        database = "/data/.openclaw/agents/main/agent/openclaw-agent.sqlite"
        assert "teal" in api.say(original, "teal")
        code, output = inside(
            container_of(engine, api, original),
            f'python3 -c \'import sqlite3; sqlite3.connect("{database}").execute("{tables}")\'',
        )
        assert code == 1
        assert "no such table: session_nodes" in output
        transcript = local(api, "GET", f"instances/{original}/transcript").json()
        assert next(each["text"] for each in transcript["turns"]) == "teal"

        snapshot = local(api, "POST", f"instances/{original}/snapshots", json={"name": "s"}).json()
        fork = local(api, "POST", f"snapshots/{snapshot['id']}/fork", json={"name": "Bea"})
        api.say(original, "later")
        body = {"snapshot_id": snapshot["id"]}
        local(api, "POST", f"instances/{original}/restore", json=body)
        for each in (original, fork.json()["id"]):
            api.until(each, "running")
            assert 'Turn 2. You said: "and now?" Before that: "teal"' in api.say(each, "and now?")

        assert local(api, "GET", "health").json()["shortcuts_off"].keys() >= OFF
    assert {name for name in OFF if name in shortcut_lines(server)} == OFF


def shortcut_lines(server: ServerProcess) -> str:
    command = [*server.command(), "doctor", "--output", "json"]
    output = subprocess.run(command, env=server.env, capture_output=True, text=True, check=False)
    findings: list[dict[str, Any]] = json.loads(output.stdout)["findings"]
    return "\n".join(each["words"] for each in findings if each["subject"] == "shortcut")
