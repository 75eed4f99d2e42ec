"""Instances of two OpenClaw releases side by side.

The other release is the quick image under another tag: a real one would have to be built from the
registry first, as `scripts/canary` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import expected_tag
from tests.e2e.containers import container_of
from tests.e2e.copies import local
from tests.e2e.quick_agents import FIRST

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

CHECK_TIMEOUT_S = 300
RELEASE = "2099.1.1"
BEFORE, AFTER = "Before the upgrade.", "After it."


@pytest.fixture
def other_image(engine: docker.DockerClient, image: str) -> Iterator[str]:
    """The tag of the other release's image."""
    repository, tag = expected_tag(Settings(), RELEASE).split(":")
    engine.images.get(image).tag(repository, tag)
    yield f"{repository}:{tag}"
    engine.images.remove(f"{repository}:{tag}")


def image_of(engine: docker.DockerClient, api: Api, instance_id: str) -> str:
    """The tag of the image of an instance's container."""
    tag: str = container_of(engine, api, instance_id).attrs["Config"]["Image"]
    return tag


@pytest.mark.nightly
def test_an_agent_goes_to_another_release_and_back_with_its_messages(
    quick_api: Api, quick_server: ServerProcess, engine: docker.DockerClient, other_image: str
) -> None:
    agent = quick_api.created("up and down")
    quick_api.until(agent, "running")
    assert quick_api.say(agent, FIRST) == f"Turn 1. First: {FIRST}"
    quick_api.say(agent, BEFORE)
    own_image = image_of(engine, quick_api, agent)

    path = f"instances/{agent}/upgrade"
    ask = {"to": RELEASE, "dry_run": True}
    checked = local(quick_api, "POST", path, json=ask, timeout=CHECK_TIMEOUT_S).json()
    # The quick image's OpenClaw is the default's, and checks a home that has none of its databases.
    assert checked["findings"]
    upgrade = local(quick_api, "POST", path, json={"to": RELEASE}).json()
    upgraded = quick_api.until(agent, "running")
    assert upgraded["openclaw_version"] == RELEASE
    assert image_of(engine, quick_api, agent) == other_image
    assert quick_api.say(agent, AFTER).startswith("Turn 3.")

    # It keeps its release without its container, and over a start of the server.
    container_of(engine, quick_api, agent).remove(force=True)
    quick_server.down()
    quick_server.up()
    # The server has seen at its start that there is no container, and boots the agent.
    quick_api.until(agent, "running")
    assert quick_api.say(agent, AFTER).startswith("Turn 4.")
    assert image_of(engine, quick_api, agent) == other_image

    body = {"snapshot_id": upgrade["snapshot_id"]}
    local(quick_api, "POST", f"instances/{agent}/restore", json=body)
    assert quick_api.until(agent, "running")["openclaw_version"] == "v1"
    assert image_of(engine, quick_api, agent) == own_image != other_image
    # What was said after the snapshot is gone, and nothing else.
    assert quick_api.say(agent, AFTER) == f"Turn 3. First: {FIRST}"
    assert quick_api.delete(f"instances/{agent}").status_code == 204
