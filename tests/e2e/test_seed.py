"""A seed file on a real server, and the organization's end by a reset."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.client import Client
from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of, names_of_sandboxes

if TYPE_CHECKING:
    import docker

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "seed"


def seeded(server: ServerProcess, file: Path) -> tuple[dict[str, Any], str]:
    """What is declared, and what was said on the way there."""
    command = [*server.command(), "seed", str(file), "--output", "json"]
    done = subprocess.run(command, env=server.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["organizations"][0]
    return found, done.stderr


def test_an_agent_is_seeded_once_and_gone_after_a_reset(
    quick_server: ServerProcess, engine: docker.DockerClient
) -> None:
    file = EXAMPLE / "seed.yaml"
    first, _ = seeded(quick_server, file)
    instance_id = first["instances"][0]["id"]

    # Another life of the server knows what was sent in this one.
    quick_server.down()
    quick_server.up()
    second, said = seeded(quick_server, file)
    assert second == first
    assert "The server is as declared: nothing was changed." in said

    with Api(quick_server.base_url, first["keys"][0]["key"]) as page:
        answer = page.say(instance_id, "What do I like?")
    assert answer == "Turn 3. First: My name is Ada."
    with (
        Client(quick_server.base_url, first["key"]) as client,
        Api(quick_server.base_url, first["key"]) as api,
    ):
        container = container_of(engine, api, instance_id)
        config = config_of(container)
        assert config["agents"]["defaults"]["thinkingDefault"] == "off"
        for path, content in (
            ("workspace/notes.md", "The tide turns at noon."),
            ("workspace/skills/tides/SKILL.md", (EXAMPLE / "tides/SKILL.md").read_text()),
        ):
            file_of = api.get(f"instances/{instance_id}/files/content", params={"path": path})
            assert file_of.json()["content"] == content
        assert client.reset() == {"instances": 1, "keys": 1, "faults": 0, "snapshots": 0}
        assert client.instances() == []
    assert container.name not in names_of_sandboxes(engine, quick_server.store_id)
