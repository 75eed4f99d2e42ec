"""What a real engine says of a data directory's containers, without the values they were given."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.core.settings import Settings
from chowder_local.engine.connection import find_engine, open_client
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.labels import store_labels
from chowder_local.engine.store_resources import inspect_store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.docker

STORE_ID = f"test-{secrets.token_hex(4)}"


@pytest.fixture
def name() -> Iterator[str]:
    """A container of the store that was given a secret; it is never started."""
    client = open_client(find_engine(os.environ))
    container = client.containers.create(
        expected_tag(Settings.read({})),
        ["true", "planted-in-the-command"],
        name=STORE_ID,
        labels=store_labels(STORE_ID),
        environment={"TOKEN": "planted-in-the-environment"},
    )
    try:
        yield STORE_ID
    finally:
        container.remove(force=True)
        client.close()


def test_a_container_is_told_without_what_it_was_given(name: str) -> None:
    (found,) = inspect_store(STORE_ID, os.environ)
    assert (found["Name"], found["State"]["Status"]) == (f"/{name}", "created")
    assert "TOKEN" in found["Config"]["Env"]
    assert "planted" not in str(found)


@pytest.mark.usefixtures("name")
def test_containers_of_others_are_not_told() -> None:
    assert inspect_store(f"{STORE_ID}-of-others", os.environ) == []


def test_an_engine_that_is_down_shows_nothing() -> None:
    with pytest.raises(EngineUnavailable):
        inspect_store(STORE_ID, {"DOCKER_HOST": "unix:///nowhere.sock"})
