"""Servers and sandboxes that end when nobody expects it; only the agents are not real."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.containers import container_of, inside, names_of_sandboxes
from tests.e2e.quick_agents import HELD, let_go, made, remembers, until_it_waits
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

    from tests.e2e.api import Api
    from tests.e2e.engine_door import EngineDoor
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker


@pytest.fixture
def agent(quick_api: Api, quick_server: ServerProcess) -> Iterator[str]:
    """A running agent that has been told something."""
    instance_id = made(quick_api)
    yield instance_id
    quick_server.ensure_up()
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204


def rows(api: Api) -> dict[str, str]:
    return {row["id"]: row["status"] for row in api.get("instances").json()}


def our_sandboxes(engine: docker.DockerClient, server: ServerProcess) -> set[str]:
    return names_of_sandboxes(engine, server.store_id)


def test_a_server_killed_in_the_middle_of_a_create_goes_on_with_it(
    quick_api: Api, quick_server: ServerProcess, engine: docker.DockerClient
) -> None:
    before = our_sandboxes(engine, quick_server)
    instance_id = quick_api.created("interrupted", openclaw_config=HELD)
    # Once before there is a sandbox, as a rule, and once while it boots.
    quick_server.kill()
    quick_server.up()
    assert rows(quick_api)[instance_id] == "provisioning"
    eventually(lambda: our_sandboxes(engine, quick_server) - before, "its sandbox is made")
    quick_server.kill()
    quick_server.up()
    assert rows(quick_api)[instance_id] == "provisioning"
    made = let_go(quick_api, quick_server, engine, instance_id)
    assert our_sandboxes(engine, quick_server) - before == {made["sandbox_id"]}
    assert "Turn 1." in quick_api.say(instance_id, "Are you whole?")
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204
    assert our_sandboxes(engine, quick_server) == before


def test_a_server_killed_after_a_delete_began_ends_it(
    quick_api: Api, quick_server: ServerProcess, engine: docker.DockerClient, door: EngineDoor
) -> None:
    before = our_sandboxes(engine, quick_server)
    instance_id = made(quick_api)
    door.hang()
    with ThreadPoolExecutor() as pool:
        deleting = pool.submit(quick_api.delete, f"instances/{instance_id}")
        eventually(lambda: instance_id not in rows(quick_api), "its row is gone from the list")
        quick_server.kill()
        # Answered or cut off: both are a delete that has begun.
        assert isinstance(deleting.exception(), httpx.TransportError | None)
    assert our_sandboxes(engine, quick_server) != before
    # What has waited is not let pass: it never reached the engine.
    door.close()
    door.open()
    quick_server.up()
    assert instance_id not in rows(quick_api)
    eventually(lambda: our_sandboxes(engine, quick_server) == before, "its sandbox is gone")


@pytest.mark.slow
def test_a_server_that_ends_in_the_middle_of_a_turn_says_so_and_the_agent_goes_on(
    quick_api: Api, quick_server: ServerProcess, engine: docker.DockerClient, agent: str
) -> None:
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(quick_api.message, agent, "Please wait.")
        until_it_waits(container_of(engine, quick_api, agent))
        # Fails unless it ends with 0.
        quick_server.down()
        answer = sending.result()
    assert answer.status_code == 502
    assert "the server is stopping" in answer.json()["detail"]["error"]
    quick_server.up()
    assert rows(quick_api)[agent] == "running"
    remembers(quick_api, agent)


def test_a_server_that_ends_in_the_middle_of_a_stream_says_so_within_it(
    quick_api: Api, quick_server: ServerProcess, agent: str
) -> None:
    with closing(quick_api.events(agent, "Please wait.")) as events:
        for event in events:
            if event["type"] == "response.output_text.delta":
                break
        quick_server.down()
        # Up to `[DONE]`: a connection that broke would raise.
        *_, error, last = events
    assert (error["type"], last["type"]) == ("error", "response.failed")
    assert "the server is stopping" in error["message"]
    quick_server.up()
    assert rows(quick_api)[agent] == "running"
    remembers(quick_api, agent)


def test_a_sandbox_killed_in_the_middle_of_a_turn_is_a_502_and_heals(
    quick_api: Api, engine: docker.DockerClient, agent: str
) -> None:
    container = container_of(engine, quick_api, agent)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(quick_api.message, agent, "Please wait.")
        until_it_waits(container)
        container.kill()
        answer = sending.result()
    assert answer.status_code == 502
    assert answer.json()["detail"] == {"error": answer.json()["error"]["message"]}
    assert answer.json()["detail"]["error"].startswith("Gateway unavailable – ")
    remembers(quick_api, agent)
    assert container_of(engine, quick_api, agent).id != container.id


@pytest.mark.slow
def test_a_sandbox_that_ended_while_the_server_was_down_is_made_again(
    quick_api: Api, quick_server: ServerProcess, engine: docker.DockerClient
) -> None:
    instance_id = quick_api.created("held", openclaw_config=HELD)
    let_go(quick_api, quick_server, engine, instance_id)
    quick_api.say(instance_id, "Do not forget me.")
    killed = container_of(engine, quick_api, instance_id)
    assert inside(killed, "rm /data/go")[0] == 0
    quick_server.down()
    killed.kill()
    quick_server.up()
    assert rows(quick_api)[instance_id] == "provisioning"
    let_go(quick_api, quick_server, engine, instance_id)
    assert container_of(engine, quick_api, instance_id).id != killed.id
    said = quick_api.say(instance_id, "Still there? And what was before?")
    assert said.endswith('Before that: "Do not forget me."')
    assert quick_api.delete(f"instances/{instance_id}").status_code == 204
