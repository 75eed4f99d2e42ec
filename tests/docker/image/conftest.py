"""Fixtures of the tests of the sandbox image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chowder_local.core.settings import Settings
from chowder_local.engine import images
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag
from tests.docker.image.inside import ENV

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = open_client(find_engine(ENV))
    yield client
    client.close()


@pytest.fixture(scope="module")
def tag() -> str:
    tag = expected_tag(Settings())
    if not images.is_there(tag, ENV):
        images.build(Settings(), print, env=ENV)
    return tag


@pytest.fixture(scope="module")
def container(client: docker.DockerClient, tag: str) -> Iterator[Container]:
    """One of the image, with as few rights as a sandbox, in which nothing runs."""
    container = client.containers.run(
        tag, ["sleep", "infinity"], entrypoint="", detach=True, init=True, cap_drop=["ALL"],
        read_only=True, network_mode="none",
    )  # fmt: skip
    yield container
    container.remove(force=True)
