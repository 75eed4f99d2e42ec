"""Sweeping a store away on a real engine: all of it, and nothing of another's."""

import os
import secrets

import docker
import pytest
from docker.errors import NotFound

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine import store_resources
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import sandbox_labels, store_filter, store_labels
from chowder_local.engine.store_resources import SweepReport, list_store, remove_store

pytestmark = pytest.mark.docker


def make(client: docker.DockerClient, store_id: str, *, is_paused: bool = False) -> str:
    name = f"chowder-sweep-{secrets.token_hex(4)}"
    labels = sandbox_labels(store_id, name)
    client.volumes.create(name, labels=labels)
    client.networks.create(f"{name}-net", labels=store_labels(store_id))
    container = client.containers.run(
        expected_tag(Settings()),
        ["sleep", "60"],
        entrypoint="",
        name=name,
        detach=True,
        labels=labels,
        network=f"{name}-net",
        volumes={name: {"bind": "/data"}},
    )
    if is_paused:
        container.pause()
    return name


def test_everything_of_one_store_goes_and_nothing_of_another(client: docker.DockerClient) -> None:
    ours, theirs = f"test-{secrets.token_hex(4)}", f"test-{secrets.token_hex(4)}"
    try:
        names = {make(client, ours), make(client, ours, is_paused=True)}
        other = make(client, theirs)
        there = list_store(ours, os.environ)
        report = remove_store(ours, os.environ)
        assert set(there.containers) == set(there.volumes) == names
        assert set(there.networks) == set(report.networks)
        assert set(report.containers) == names
        assert set(report.volumes) == names
        assert set(report.networks) == {f"{name}-net" for name in names}
        assert client.containers.list(all=True, filters=store_filter(ours)) == []
        assert client.containers.get(other).status == "running"
        assert remove_store(ours, os.environ) == SweepReport()
    finally:
        for store_id in (ours, theirs):
            remove_store(store_id, os.environ)


def test_something_that_does_not_go_is_said_to(client: docker.DockerClient) -> None:
    store_id = f"test-{secrets.token_hex(4)}"
    volume = client.volumes.create(store_id, labels=store_labels(store_id))
    user = client.containers.run(
        expected_tag(Settings()),
        ["sleep", "60"],
        entrypoint="",
        detach=True,
        volumes={store_id: {"bind": "/data"}},
    )
    try:
        with pytest.raises(EngineUnavailable, match="could not remove"):
            remove_store(store_id, os.environ)
    finally:
        user.remove(force=True)
        volume.remove()


def test_what_somebody_else_removed_first_is_not_reported() -> None:
    def gone() -> None:
        raise NotFound("gone")

    assert not store_resources._has_removed(gone)


def test_an_empty_store_id_is_refused() -> None:
    with pytest.raises(ValueError, match="an empty store id"):
        remove_store("", os.environ)
