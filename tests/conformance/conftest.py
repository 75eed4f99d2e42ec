"""The service under test, and what the run makes and removes there."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.client import Client
from tests.conformance.local import local_service
from tests.conformance.shapes import PERMISSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = f"conformance-{secrets.token_hex(4)}"
"""The prefix of the names of everything that this run makes."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "costs: a model is called, which the provider charges for")
    config.addinivalue_line("markers", "stays: makes an organization, which no call can delete")


def pytest_itemcollected(item: pytest.Item) -> None:
    # Without a service in the environment, a local one is started, for which these markers apply.
    if "CHOWDER_BASE_URL" not in os.environ:
        item.add_marker("docker")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and organization key: from the environment, or of a server for the run."""
    if base_url := os.environ.get("CHOWDER_BASE_URL"):
        key = os.environ.get("CHOWDER_KEY")
        assert key, "CHOWDER_BASE_URL is set, CHOWDER_KEY is not"
        yield base_url, key
        return
    with local_service(tmp_path_factory.mktemp("conformance") / "data") as made:
        yield made


@pytest.fixture(scope="session")
def api(service: tuple[str, str]) -> Iterator[Client]:
    """The organization's client; fails at the end if something noted cannot be deleted."""
    with Client(*service) as client:
        yield client
        left = client.clean_up()
    assert not left, f"this could not be deleted: {left}"


@pytest.fixture(scope="session")
def anyone(api: Client) -> Iterator[Client]:
    """A client without a key."""
    with api.with_key(None) as client:
        yield client


@pytest.fixture(scope="session")
def began_at() -> datetime:
    """The time at which the run made its agent, for tests that run much later."""
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def creation(api: Client, began_at: datetime) -> dict[str, Any]:
    """The answer to the creation of the run's agent."""
    answer = api.created(name=NAME, openclaw_config={"agents.defaults.thinkingDefault": "off"})
    if answer.status_code == 402:
        pytest.skip(f"No agent, so most calls cannot be judged: {answer.json()['detail']}")
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


@pytest.fixture
def agent(api: Client, creation: dict[str, Any]) -> str:
    """The id of the run's agent, which is running at the start of each test."""
    instance_id: str = creation["id"]
    if api.until(instance_id, "running", "stopped", "error") == "stopped":
        assert api.post(f"instances/{instance_id}/start").status_code == 200
    status = api.until(instance_id, "running", "error")
    assert status == "running", api.get(f"instances/{instance_id}").text
    return instance_id


@pytest.fixture
def stopped(api: Client, agent: str) -> str:
    """The same agent, stopped."""
    assert api.post(f"instances/{agent}/stop").status_code == 200
    return agent


@pytest.fixture(scope="session")
def newcomer(anyone: Client) -> Iterator[Client]:
    """The client of a new organization without model keys; what it makes is deleted."""
    answer = anyone.post("organization/signup", json={"name": NAME})
    assert answer.status_code == 201, answer.text
    with anyone.with_key(answer.json()["api_key"]) as client:
        yield client
        left = client.clean_up()
    assert not left, f"this could not be deleted: {left}"


@pytest.fixture(scope="session")
def new_key(api: Client) -> Callable[..., dict[str, Any]]:
    """Makes a scoped key for an instance; it is revoked at the end."""

    def make(instance_id: str, *permissions: str, **more: Any) -> dict[str, Any]:
        body = {"name": NAME, "instance_ids": [instance_id], "permissions": permissions, **more}
        answer = api.post("keys", json=body)
        assert answer.status_code == 201, answer.text
        key: dict[str, Any] = answer.json()
        api.note(f"keys/{key['id']}")
        return key

    return make


@pytest.fixture(scope="session")
def scoped(
    api: Client, creation: dict[str, Any], new_key: Callable[..., dict[str, Any]]
) -> Iterator[dict[str, Client]]:
    """Clients by permission: each has a key with that permission only, for the run's agent."""
    instance_id = creation["id"]
    clients = {each: api.with_key(new_key(instance_id, each)["raw_key"]) for each in PERMISSIONS}
    yield clients
    for client in clients.values():
        client.close()
