"""A server from its start until nothing of it is left, known to whoever reports a failure."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import docker.errors
import pytest

from tests.e2e.containers import containers, names_of_sandboxes, networks, volumes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.serving import ServerProcess

SANDBOX_LINES = 25

ENGINE: pytest.StashKey[docker.DockerClient] = pytest.StashKey()
SERVERS: pytest.StashKey[list[ServerProcess]] = pytest.StashKey()


@contextmanager
def served(
    server: ServerProcess, engine: docker.DockerClient, config: pytest.Config
) -> Iterator[None]:
    """Starts the server; fails afterwards if it left something or met a defect of ours.

    A failure of the block ends the server, too, after its sandboxes' logs were noted.
    """
    config.stash[SERVERS].append(server)
    config.stash[ENGINE] = engine
    try:
        server.up()
        store_id = server.store_id
        yield
    except (Exception, pytest.fail.Exception) as failure:
        for title, tail in sandbox_logs(engine, server):
            failure.add_note(f"{title}:\n{tail}")
        raise
    finally:
        server.reset()
    assert_nothing_left(engine, store_id)
    assert "Traceback" not in server.log(), "the server met a defect of ours"


def sandbox_logs(engine: docker.DockerClient, server: ServerProcess) -> Iterator[tuple[str, str]]:
    """The last lines of each sandbox of a server, with a title; nothing if the engine is away."""
    with suppress(docker.errors.DockerException, OSError):
        for container in containers(engine, server.store_id):
            tail = container.logs(tail=SANDBOX_LINES).decode(errors="replace")
            yield (f"{container.name} ({container.status})", tail)


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
