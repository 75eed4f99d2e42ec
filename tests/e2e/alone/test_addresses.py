"""Where other projects have taken all the addresses that the engine has for networks."""

from __future__ import annotations

import itertools
import os
import secrets
from contextlib import suppress
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
from docker.errors import NotFound

from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import store_labels
from chowder_local.engine.networks import OWN_POOL, Networks
from chowder_local.engine.store_resources import remove_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = [pytest.mark.docker, pytest.mark.nightly]


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
def others(client: docker.DockerClient) -> Iterator[None]:
    """Networks of somebody else, as many as there are addresses for."""
    other_id = f"test-{secrets.token_hex(4)}"
    try:
        with suppress(NotFound):
            for number in itertools.count():
                name = f"chowder-{other_id}-{number}"
                client.networks.create(name, labels=store_labels(other_id))
        yield
    finally:
        remove_store(other_id, os.environ)


@pytest.mark.usefixtures("others")
def test_a_server_gets_its_networks_all_the_same(
    client: docker.DockerClient, store_id: str
) -> None:
    made = Networks(client, store_id).ensure()
    assert made.closed is not None
    for network in (made.open, made.closed):
        assert network.addresses is not None
        assert IPv4Network(network.addresses[0]).subnet_of(OWN_POOL)
    assert Networks(client, store_id).ensure() == made


@pytest.mark.usefixtures("others")
def test_a_server_in_a_container_does_not_get_the_networks_of_one_on_the_host(
    client: docker.DockerClient, store_id: str
) -> None:
    in_container = f"{store_id}-2"
    server = client.containers.create(expected_tag(Settings()), ["sleep", "300"])
    try:
        subnets = set()
        for each, own in ((store_id, None), (in_container, server.id)):
            made = Networks(client, each).ensure(own)
            assert made.closed is not None
            subnets |= {made.open.addresses, made.closed.addresses}
        assert len(subnets) == 4
    finally:
        server.remove(force=True)
        remove_store(in_container, os.environ)
