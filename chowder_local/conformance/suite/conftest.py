"""The service under test, and what the run makes and removes there."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.api.openapi import differences
from chowder_local.conformance.client import ContractClient
from chowder_local.conformance.drift import Judge, answered
from chowder_local.conformance.outcomes import JUDGE, OPERATIONS
from chowder_local.conformance.published import PERMISSIONS
from chowder_local.conformance.run import local_service
from chowder_local.conformance.service import BASE_URL, KEY, READ_ONLY, TARGET, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = f"conformance-{secrets.token_hex(4)}"
"""The prefix of the names of everything that this run makes."""


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "costs: a model is called, which the provider charges for",
        "stays: makes an organization, which no call can delete",
        "slow: takes long",
        "read_only: reads, or sends what no service can fulfil",
    ):
        config.addinivalue_line("markers", marker)


def pytest_itemcollected(item: pytest.Item) -> None:
    # If the environment names no service, the suite starts a local one, which needs an engine.
    if BASE_URL not in os.environ:
        item.add_marker("docker")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and organization key: from the environment, or of a server for the run."""
    if base_url := os.environ.get(BASE_URL):
        key = os.environ.get(KEY)
        assert key, f"{BASE_URL} is set, {KEY} is not"
        yield base_url, key
        return
    # The kernel alone fulfils the contract; servers with features have all other tests.
    env = {**os.environ, "CHOWDER_FEATURES_OFF": "all"}
    with local_service(tmp_path_factory.mktemp("conformance") / "data", env) as made:
        yield made


@pytest.fixture(scope="session")
def judge(request: pytest.FixtureRequest) -> Judge:
    """Judges observations by the differences, as of the service that the environment says."""
    target = Target(os.environ.get(TARGET, Target.LOCAL))
    judge = request.config.stash[JUDGE] = Judge(target, differences.by_id())
    return judge


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest, service: tuple[str, str]) -> Iterator[ContractClient]:
    """The organization's client; fails at the end if something noted cannot be deleted."""
    with ContractClient(*service) as client:
        request.config.stash[OPERATIONS] = client.operations
        yield client
        left = client.clean_up()
    assert not left, f"this could not be deleted: {left}"


@pytest.fixture(scope="session")
def anyone(api: ContractClient) -> Iterator[ContractClient]:
    """A client without a key."""
    with api.with_key(None) as client:
        yield client


@pytest.fixture(scope="session")
def began_at() -> datetime:
    """The time at which the run made its agent, for tests that run much later."""
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def creation(api: ContractClient, began_at: datetime) -> dict[str, Any]:
    """The answer to the creation of the run's agent."""
    return api.created_or_skipped(
        name=NAME, openclaw_config={"agents.defaults.thinkingDefault": "off"}
    )


@pytest.fixture
def agent(api: ContractClient, creation: dict[str, Any]) -> str:
    """The id of the run's agent, which is running at the start of each test."""
    instance_id: str = creation["id"]
    if api.until(instance_id, "running", "stopped", "error") == "stopped":
        answered(api.post(f"instances/{instance_id}/start"))
    status = api.until(instance_id, "running", "error")
    assert status == "running", api.get(f"instances/{instance_id}").text
    return instance_id


@pytest.fixture
def present(request: pytest.FixtureRequest, api: ContractClient) -> str:
    """A running instance for reading: the run's, or one of the organization in a read-only run."""
    if request.config.getoption("markexpr") != READ_ONLY:
        instance_id: str = request.getfixturevalue("agent")
        return instance_id
    for each in answered(api.get("instances")):
        if each["status"] == "running":
            return str(each["id"])
    pytest.skip("The organization has no running instance to read.")


@pytest.fixture
def stopped(api: ContractClient, agent: str) -> str:
    """The same agent, stopped."""
    answered(api.post(f"instances/{agent}/stop"))
    return agent


@pytest.fixture(scope="session")
def newcomer(anyone: ContractClient) -> Iterator[ContractClient]:
    """The client of a new organization without model keys; what it makes is deleted."""
    signup = answered(anyone.post("organization/signup", json={"name": NAME}))
    with anyone.with_key(signup["api_key"]) as client:
        yield client
        left = client.clean_up()
    assert not left, f"this could not be deleted: {left}"


@pytest.fixture(scope="session")
def new_key(api: ContractClient) -> Callable[..., dict[str, Any]]:
    """Makes a scoped key for an instance; it is revoked at the end."""

    def make(instance_id: str, *permissions: str, **more: Any) -> dict[str, Any]:
        body = {"name": NAME, "instance_ids": [instance_id], "permissions": permissions, **more}
        answer = api.post("keys", json=body)
        if answer.is_success:
            api.note(f"keys/{answer.json()['id']}")
        key: dict[str, Any] = answered(answer)
        return key

    return make


@pytest.fixture(scope="session")
def scoped(
    api: ContractClient, creation: dict[str, Any], new_key: Callable[..., dict[str, Any]]
) -> Iterator[dict[str, ContractClient]]:
    """Clients by permission: each has a key with that permission only, for the run's agent."""
    instance_id = creation["id"]
    clients = {each: api.with_key(new_key(instance_id, each)["raw_key"]) for each in PERMISSIONS}
    yield clients
    for client in clients.values():
        client.close()
