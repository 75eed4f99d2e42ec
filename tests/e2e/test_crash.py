"""Servers and sandboxes that end when nobody expects it; only the agents are not real."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.containers import container_of, names_of_sandboxes
from tests.e2e.copies import local
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


SLOW = {"replies": [{"match": {"text": "slow"}, "reply": {"text": "Done.", "delay_s": 600}}]}


@pytest.fixture
def limited(quick_api: Api, agent: str) -> str:
    """The agent with a budget, and a model that takes ten minutes for a message with `slow`."""
    budget = {"per": "total", "model_calls": 100}
    local(quick_api, "PUT", f"instances/{agent}/budget", json=budget)
    local(quick_api, "PUT", f"instances/{agent}/replies", json=SLOW)
    return agent


def calls_of(api: Api, instance_id: str, sum_: str) -> int:
    """How many model calls are spent or reserved of its budget."""
    found = local(api, "GET", f"instances/{instance_id}/budget").json()
    count: int = found[sum_]["model_calls"]
    return count


def is_reserved(server: ServerProcess, instance_id: str) -> bool:
    """Whether a model call of its budget is in progress, as the disk says: only then it is sent."""
    query = "SELECT reserved_model_calls FROM budget WHERE owner_id = ?"
    with closing(sqlite3.connect(server.data_dir / "chowder.db", timeout=60)) as database:
        ((count,),) = database.execute(query, [instance_id]).fetchall()
    return bool(count)


def held_id(api: Api, instance_id: str) -> str:
    """The id of its model call that is held next."""
    query = {"instance_id": instance_id, "wait_s": 25}
    (call,) = local(api, "GET", "held-calls", params=query).json()
    return str(call["id"])


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("reserved", marks=pytest.mark.nightly),
        pytest.param("held", marks=pytest.mark.nightly),
        "resumed",
    ],
)
def test_a_server_killed_in_the_middle_of_a_model_call_counts_it_once_if_it_was_sent(
    quick_api: Api, quick_server: ServerProcess, limited: str, moment: str
) -> None:
    if moment != "reserved":
        local(quick_api, "PUT", f"instances/{limited}/breakpoint", json={})
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(quick_api.message, limited, "ask your model: slow")
        if moment != "reserved":
            resume = f"held-calls/{held_id(quick_api, limited)}/resume"
            assert calls_of(quick_api, limited, "reserved") == 0
            if moment == "resumed":
                local(quick_api, "POST", resume, json={})
        if moment != "held":
            eventually(lambda: is_reserved(quick_server, limited), "the call is in progress")
        quick_server.kill()
        assert isinstance(sending.exception(), httpx.TransportError)
    quick_server.up()
    assert calls_of(quick_api, limited, "spent") == (moment != "held")
    assert calls_of(quick_api, limited, "reserved") == 0
    assert local(quick_api, "GET", "held-calls").json() == []
    assert quick_api.say(limited, "ask your model: quick")
    eventually(
        lambda: calls_of(quick_api, limited, "spent") == 1 + (moment != "held"), "it is counted"
    )


@pytest.mark.nightly
def test_a_server_killed_before_it_has_written_a_settled_call_counts_it_once(
    quick_api: Api, quick_server: ServerProcess, limited: str
) -> None:
    local(quick_api, "PUT", f"instances/{limited}/breakpoint", json={"once": True})
    quick = {"replies": [{"match": {"text": "slow"}, "reply": {"text": "Done.", "delay_s": 3}}]}
    local(quick_api, "PUT", f"instances/{limited}/replies", json=quick)
    with (
        ThreadPoolExecutor() as pool,
        closing(sqlite3.connect(quick_server.data_dir / "chowder.db", timeout=60)) as database,
    ):
        sending = pool.submit(quick_api.message, limited, "ask your model: slow")
        call_id = held_id(quick_api, limited)
        local(quick_api, "POST", f"held-calls/{call_id}/resume", json={})
        eventually(lambda: is_reserved(quick_server, limited), "the call is in progress")
        # From here on the server cannot write.
        database.execute("BEGIN IMMEDIATE")
        eventually(lambda: calls_of(quick_api, limited, "spent") == 1, "it is settled")
        quick_server.kill()
        sending.exception()
    quick_server.up()
    assert calls_of(quick_api, limited, "spent") == 1
    assert calls_of(quick_api, limited, "reserved") == 0
