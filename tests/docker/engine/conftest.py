"""What the tests of a real engine share."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.store_resources import remove_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = open_client(find_engine(os.environ))
    yield client
    client.close()


@pytest.fixture
def store_id() -> Iterator[str]:
    store_id = f"test-{secrets.token_hex(4)}"
    yield store_id
    remove_store(store_id, os.environ)


@pytest.fixture
def own(client: docker.DockerClient) -> Iterator[Container]:
    """What stands for the container of a server, or of a node's worker."""
    yield from _standing_for_a_server(client)


@pytest.fixture
def successor(client: docker.DockerClient) -> Iterator[Container]:
    """What stands for the container that replaces it, as long as both run."""
    yield from _standing_for_a_server(client)


def _standing_for_a_server(client: docker.DockerClient) -> Iterator[Container]:
    command = ["sleep", "300"]
    own = client.containers.run(expected_tag(Settings()), command, entrypoint="", detach=True)
    yield own
    own.remove(force=True)
