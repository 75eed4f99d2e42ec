"""The networks of a data directory on a real engine: one that leads out, and one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from docker.errors import APIError, NotFound

from chowder_local.core.settings import Settings
from chowder_local.engine import networks as module
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import store_filter, store_labels
from chowder_local.engine.networks import (
    CLOSED_SUFFIX,
    JOINED_MARK,
    Networks,
    split_subnet,
)

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker


def addresses(own: Container) -> dict[str, str]:
    own.reload()
    networks = own.attrs["NetworkSettings"]["Networks"]
    return {name: known["IPAddress"] for name, known in networks.items() if name != "bridge"}


def test_there_are_two_which_stay_the_same(client: docker.DockerClient, store_id: str) -> None:
    made = Networks(client, store_id).ensure()
    assert made.closed is not None
    assert made.problem is None
    assert made.relay_binds == [made.open.relay_bind, made.closed.relay_bind]
    for network, is_internal in ((made.open, False), (made.closed, True)):
        attributes = client.networks.get(network.name).attrs
        assert attributes["Internal"] is is_internal
        assert attributes["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert Networks(client, store_id).ensure() == made


def test_one_that_somebody_has_made_with_a_way_out_is_not_taken_for_closed(
    client: docker.DockerClient, store_id: str
) -> None:
    name = f"chowder-{store_id}{CLOSED_SUFFIX}"
    client.networks.create(name, labels=store_labels(store_id))
    made = Networks(client, store_id).ensure()
    assert made.closed is None
    assert "has a way out" in str(made.problem)
    assert made.relay_binds == [made.open.relay_bind]


def test_where_the_bridge_is_not_on_this_host_nobody_can_be_kept_in(
    client: docker.DockerClient, store_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with Docker Desktop, whose bridges are in its virtual machine.
    monkeypatch.setattr(module, "_is_local", lambda _: False)
    made = Networks(client, store_id).ensure()
    assert made.open.relay_address == "host-gateway"
    assert (made.closed, made.relay_binds) == (None, ["127.0.0.1"])
    assert "Docker Desktop" in str(made.problem)


def test_a_server_in_a_container_joins_them_at_an_address_that_stays(
    client: docker.DockerClient, store_id: str, own: Container
) -> None:
    made = Networks(client, store_id).ensure(own.id)
    assert made.closed is not None
    assert made.joined_by == own.id
    for network, is_internal in ((made.open, False), (made.closed, True)):
        attributes = client.networks.get(network.name).attrs
        assert attributes["Internal"] is is_internal
        assert attributes["Options"] == {"com.docker.network.bridge.enable_icc": "true"}
        assert network.addresses is not None
        others, place = split_subnet(network.addresses[0])
        assert attributes["IPAM"]["Config"][0]["IPRange"] == others
        assert network.relay_bind == network.relay_address == place
    expected = {each.name: each.relay_bind for each in (made.open, made.closed)}
    assert addresses(own) == expected
    # At the next start, and if somebody has removed one.
    assert Networks(client, store_id).ensure(own.id) == made
    Networks(client, store_id).leave(made)
    assert addresses(own) == {}
    Networks(client, store_id).recreate(made)
    assert Networks(client, store_id).ensure(own.id) == made
    assert addresses(own) == expected


def test_the_networks_go_with_the_server_unless_a_container_is_on_one(
    client: docker.DockerClient, store_id: str, own: Container
) -> None:
    networks = Networks(client, store_id)
    made = networks.ensure()
    # Somebody else's, which does not run.
    client.networks.get(made.open.name).connect(own)
    own.kill()
    own.wait()
    networks.leave(made)
    assert len(client.networks.list(filters=store_filter(store_id))) == 2
    assert networks.ensure() == made
    client.networks.get(made.open.name).disconnect(own)
    networks.leave(made)
    assert client.networks.list(filters=store_filter(store_id)) == []
    networks.leave(made)


def test_a_server_that_came_before_its_predecessor_had_left_joins_them_afterwards(
    client: docker.DockerClient, store_id: str, own: Container, successor: Container
) -> None:
    made = Networks(client, store_id).ensure(own.id)
    with pytest.raises(APIError, match="Address already in use"):
        Networks(client, store_id).ensure(successor.id)
    own.kill()
    own.wait()
    Networks(client, store_id).ensure(successor.id)
    assert made.closed is not None
    assert addresses(successor) == {each.name: each.relay_bind for each in (made.open, made.closed)}


def test_a_server_elsewhere_takes_away_the_networks_of_the_former_one_with_who_is_in_them(
    client: docker.DockerClient, store_id: str, own: Container
) -> None:
    Networks(client, store_id).ensure(own.id)
    sandbox = client.containers.create(
        expected_tag(Settings()),
        labels=store_labels(store_id),
        network=f"chowder-{store_id}{JOINED_MARK}",
    )
    Networks(client, store_id).ensure()
    with pytest.raises(NotFound):
        sandbox.reload()
    assert addresses(own) == {}
    assert {network.name for network in client.networks.list(filters=store_filter(store_id))} == {
        f"chowder-{store_id}",
        f"chowder-{store_id}{CLOSED_SUFFIX}",
    }
