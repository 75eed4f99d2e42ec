"""The networks of a data directory on a real engine: one that leads out, and one that does not."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from chowder_local.engine import networks as module
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.labels import store_labels
from chowder_local.engine.networks import CLOSED_SUFFIX, ensure_networks
from chowder_local.engine.sweep import remove_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

pytestmark = pytest.mark.docker


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


def test_there_are_two_which_stay_the_same(client: docker.DockerClient, store_id: str) -> None:
    made = ensure_networks(client, store_id)
    assert made.closed is not None
    assert made.problem is None
    assert made.relay_binds == [made.open.relay_bind, made.closed.relay_bind]
    for network, is_internal in ((made.open, False), (made.closed, True)):
        attributes = client.networks.get(network.name).attrs
        assert attributes["Internal"] is is_internal
        assert attributes["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert ensure_networks(client, store_id) == made


def test_one_that_somebody_has_made_with_a_way_out_is_not_taken_for_closed(
    client: docker.DockerClient, store_id: str
) -> None:
    name = f"chowder-{store_id}{CLOSED_SUFFIX}"
    client.networks.create(name, labels=store_labels(store_id))
    made = ensure_networks(client, store_id)
    assert made.closed is None
    assert "has a way out" in str(made.problem)
    assert made.relay_binds == [made.open.relay_bind]


def test_where_the_bridge_is_not_on_this_host_nobody_can_be_kept_in(
    client: docker.DockerClient, store_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with Docker Desktop, whose bridges are in its virtual machine.
    monkeypatch.setattr(module, "_is_ours", lambda _: False)
    made = ensure_networks(client, store_id)
    assert made.open.relay_address == "host-gateway"
    assert (made.closed, made.relay_binds) == (None, ["127.0.0.1"])
    assert "Docker Desktop" in str(made.problem)
