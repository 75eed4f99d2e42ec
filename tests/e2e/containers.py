"""What a test sees of sandboxes past the API: on the engine, and from inside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container
    from docker.models.networks import Network
    from docker.models.volumes import Volume

    from tests.e2e.api import Api

STORE = "dev.chowder-local.store"
CONFIG_FILE = "/data/.openclaw/openclaw.json"


def containers(engine: docker.DockerClient, store_id: str) -> list[Container]:
    """All containers of a data directory."""
    filters: dict[str, Any] = {"label": f"{STORE}={store_id}"}
    return engine.containers.list(all=True, filters=filters, ignore_removed=True)


def volumes(engine: docker.DockerClient, store_id: str) -> list[Volume]:
    """All volumes of a data directory."""
    return engine.volumes.list(filters={"label": f"{STORE}={store_id}"})


def networks(engine: docker.DockerClient, store_id: str) -> list[Network]:
    """All networks of a data directory."""
    return engine.networks.list(filters={"label": f"{STORE}={store_id}"})


def open_network(engine: docker.DockerClient, store_id: str) -> Network:
    """The one of sandboxes with egress."""
    (found,) = (each for each in networks(engine, store_id) if each.name == f"chowder-{store_id}")
    return found


def names_of_sandboxes(engine: docker.DockerClient, store_id: str) -> set[str]:
    """The names of a data directory's containers and volumes; a sandbox's two have the same."""
    named = {container.name for container in containers(engine, store_id)}
    kept = {volume.name for volume in volumes(engine, store_id)}
    return {str(name) for name in named | kept}


def container_of(engine: docker.DockerClient, api: Api, instance_id: str) -> Container:
    """An instance's container."""
    return engine.containers.get(api.get(f"instances/{instance_id}").json()["sandbox_id"])


def inside(container: Container, script: str) -> tuple[int, str]:
    """The exit code of a shell in the container, as the agent itself, and what it said."""
    code, output = container.exec_run(["sh", "-c", script])
    assert isinstance(output, bytes)
    assert code is not None
    return code, output.decode(errors="replace")


def config_of(container: Container) -> dict[str, Any]:
    """The agent's `openclaw.json` as it is now."""

    def read() -> str:
        code, text = inside(container, f"cat {CONFIG_FILE}")
        assert code == 0, text
        return text

    # While OpenClaw writes it anew, it is empty for a moment.
    config: dict[str, Any] = json.loads(eventually(read, "openclaw.json has something in it"))
    return config
