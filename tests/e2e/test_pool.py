"""Agents that are there before anybody asks, and stopped ones that are only on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.containers import container_of, inside
from tests.e2e.quick_agents import RELEASE, open_quick_server
from tests.e2e.waiting import eventually
from tests.e2e.warm_sandboxes import made_of, wait_until_released, warm_sandbox_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from tests.e2e.serving import ServerProcess

pytestmark = [pytest.mark.docker, pytest.mark.slow]

POOL = {
    "CHOWDER_WARM_POOL_SIZE": "1",
    "CHOWDER_PAUSED_TTL_S": "1",
    "CHOWDER_RECONCILE_INTERVAL_S": "1",
}
"""One frozen warm sandbox; the memory of a stopped agent is released after a second."""


@pytest.fixture(scope="module")
def pooled(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server with agents of the quick image."""
    with open_quick_server(tmp_path_factory.mktemp("pool"), engine, request.config, POOL) as server:
        yield server


@pytest.fixture
def held(
    tmp_path: Path, engine: docker.DockerClient, request: pytest.FixtureRequest
) -> Iterator[ServerProcess]:
    """The same, but a gateway starts only when the test releases it."""
    waits = {"QUICK_GATEWAY_WAITS": "yes"}
    with open_quick_server(tmp_path, engine, request.config, POOL, **waits) as server:
        yield server


@pytest.fixture
def api(pooled: ServerProcess) -> Iterator[Api]:
    with Api(pooled.base_url, pooled.key) as api:
        yield api


def test_a_restarted_server_keeps_its_warm_sandbox_and_a_killed_one_is_replaced(
    pooled: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    warm_sandbox = warm_sandbox_of(pooled, engine)
    pooled.kill()
    pooled.up()
    assert warm_sandbox_of(pooled, engine).id == warm_sandbox.id
    warm_sandbox.kill()
    pooled.down()
    pooled.up()
    other = warm_sandbox_of(pooled, engine)
    assert other.id != warm_sandbox.id
    instance_id = api.created("claimed")
    api.until(instance_id, "running")
    assert container_of(engine, api, instance_id).id == other.id
    assert api.delete(f"instances/{instance_id}").status_code == 204


def test_who_finds_none_ready_gets_the_one_that_boots(
    held: ServerProcess, engine: docker.DockerClient
) -> None:
    label = f"dev.chowder-local.store={held.store_id}"

    def booting(*others: str | None) -> Container:
        def look() -> list[Container]:
            running = engine.containers.list(filters={"label": label, "status": "running"})
            return [each for each in running if each.name not in others]

        (container,) = eventually(look, "the next warm sandbox boots")
        return container

    with Api(held.base_url, held.key) as api:
        assert inside(booting(), RELEASE) == (0, "")
        warm_sandbox = warm_sandbox_of(held, engine)
        first_id = api.created("first")
        api.until(first_id, "running")
        first = container_of(engine, api, first_id)
        assert first.id == warm_sandbox.id
        following = booting(first.name)
        assert following.attrs["HostConfig"]["CpuShares"] < first.attrs["HostConfig"]["CpuShares"]
        second_id = api.created("second")
        assert api.status(second_id) == "provisioning"
        assert inside(following, RELEASE) == (0, "")
        api.until(second_id, "running")
        second = container_of(engine, api, second_id)
        assert second.id == following.id
        assert made_of(second) == made_of(first)
        assert api.say(second_id, "Hello there.") == "Turn 1. First: Hello there."


def test_a_stopped_agent_gives_its_memory_back_and_starts_with_what_it_knew(
    pooled: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    warm_sandbox_of(pooled, engine)
    instance_id = api.created("sleeper")
    api.until(instance_id, "running")
    api.say(instance_id, "The tide turns at noon.")
    api.stop(instance_id)
    wait_until_released(api, container_of(engine, api, instance_id), instance_id)
    api.start(instance_id)
    assert api.say(instance_id, "Still there?") == "Turn 2. First: The tide turns at noon."
    assert api.delete(f"instances/{instance_id}").status_code == 204
