"""A server from its start until nothing of it is left, known to whoever reports a failure."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.e2e.containers import containers, names_of_sandboxes, networks, volumes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from tests.e2e.serving import ServerProcess

ENGINE: pytest.StashKey[docker.DockerClient] = pytest.StashKey()
SERVERS: pytest.StashKey[list[ServerProcess]] = pytest.StashKey()


@contextmanager
def served(
    server: ServerProcess, engine: docker.DockerClient, config: pytest.Config
) -> Iterator[None]:
    """Starts the server; fails afterwards if it left something or met a defect of ours."""
    config.stash[SERVERS].append(server)
    config.stash[ENGINE] = engine
    server.up()
    store_id = server.store_id
    yield
    server.reset()
    assert_nothing_left(engine, store_id)
    assert "Traceback" not in server.log(), "the server met a defect of ours"


def assert_nothing_left(engine: docker.DockerClient, store_id: str) -> None:
    """Fails if the engine still has something of a data directory, after removing it."""
    left = [*names_of_sandboxes(engine, store_id)]
    for container in containers(engine, store_id):
        container.remove(force=True, v=True)
    for volume in volumes(engine, store_id):
        volume.remove(force=True)
    for network in networks(engine, store_id):
        left.append(str(network.name))
        network.remove()
    assert not left, f"left on the engine: {left}"
