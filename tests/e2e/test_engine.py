"""An engine that hangs, is gone, or was tidied up by somebody; only the agent is not real."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from chowder_local.instances.lifecycle.reconciler import DEATHS_ALLOWED
from tests.e2e.containers import (
    container_of,
    inside,
    names_of_sandboxes,
    open_network,
)
from tests.e2e.quick_agents import (
    degraded,
    health,
    is_well,
    made,
    remembers,
)
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker
    import httpx

    from tests.e2e.api import Api
    from tests.e2e.engine_door import EngineDoor
    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

FLOOD = 12
"""More calls than there are threads for the engine's calls."""


@pytest.fixture
def server(quick_server: ServerProcess) -> ServerProcess:
    return quick_server


@pytest.fixture
def api(quick_api: Api, server: ServerProcess, door: EngineDoor) -> Iterator[Api]:
    yield quick_api
    door.open()
    is_well(server)
    for row in quick_api.get("instances").json():
        assert quick_api.delete(f"instances/{row['id']}").status_code == 204


@pytest.fixture
def running(api: Api) -> str:
    return made(api)


@pytest.fixture
def stopped(api: Api) -> str:
    instance_id = made(api)
    api.stop(instance_id)
    return instance_id


def doctor(server: ServerProcess) -> tuple[int, str]:
    done = subprocess.run([*server.command(), "doctor"], env=server.env, capture_output=True)
    return done.returncode, done.stdout.decode()


def comes_to(api: Api, instance_id: str) -> tuple[str, str]:
    def ended() -> dict[str, Any] | None:
        instance: dict[str, Any] = api.get(f"instances/{instance_id}").json()
        return None if instance["status"] == "provisioning" else instance

    instance = eventually(ended, f"{instance_id} has come to something")
    return instance["status"], instance["error_message"]


# Two dozen calls wait, by turns, until the engine is known to hang.
def test_an_engine_that_hangs_keeps_no_call_from_its_answer(
    api: Api,
    server: ServerProcess,
    door: EngineDoor,
    engine: docker.DockerClient,
    running: str,
    stopped: str,
) -> None:
    doomed = made(api)
    door.hang()
    with ThreadPoolExecutor(2 * FLOOD) as pool:
        calls: list[Callable[[], httpx.Response]] = [
            lambda: api.post(f"instances/{running}/stop"),
            lambda: api.post(f"instances/{stopped}/start"),
        ]
        moves = [pool.submit(call) for call in calls]
        deletion = pool.submit(lambda: api.delete(f"instances/{doomed}"))
        healths = [pool.submit(degraded, server) for _ in range(FLOOD)]
        born = [api.created("born in a bad hour") for _ in range(FLOOD)]
        assert api.status(running) == "running"
        assert api.status(stopped) == "stopped"
        for told in healths:
            report = told.result()
            assert "The engine hangs: restart it" in report["engine"]["error"]
        for move in moves:
            assert move.result().status_code == 502
            assert "hangs" in move.result().json()["detail"]
        # What it is to lose is lost as soon as the engine can be told so.
        assert deletion.result().status_code == 204
    code, words = doctor(server)
    assert code == 1
    assert "server: degraded: The container engine" in words
    for instance_id in born:
        status, error = comes_to(api, instance_id)
        assert status == "error"
        # A call ends when the engine is known to hang, or at its own timeout.
        assert "hangs: restart it" in error or "If it hangs, restart it" in error
    door.open()
    is_well(server)
    remembers(api, running)
    api.start(stopped)
    remembers(api, stopped)
    assert api.status(doomed) == "terminated"
    ours = {row["sandbox_id"] for row in api.get("instances").json() if row["status"] == "running"}
    eventually(
        lambda: names_of_sandboxes(engine, server.store_id) == ours, "what came late is gone"
    )


def test_a_server_ends_while_the_engine_hangs(
    api: Api, server: ServerProcess, door: EngineDoor, running: str
) -> None:
    door.hang()
    instance_id = api.created("born in a bad hour")
    # Fails unless it ends in time, and with 0.
    server.down()
    door.open()
    server.up()
    remembers(api, running)
    # It had been promised nothing but a boot, and gets it.
    api.until(instance_id, "running")


def test_an_engine_that_is_gone_and_comes_back_with_everything_ended(
    api: Api,
    server: ServerProcess,
    door: EngineDoor,
    engine: docker.DockerClient,
    running: str,
    stopped: str,
) -> None:
    sandboxes = [container_of(engine, api, each) for each in (running, stopped)]
    door.close()
    for path in (f"instances/{running}/stop", f"instances/{stopped}/start"):
        answer = api.post(path)
        assert answer.status_code == 502
        assert "The container engine" in answer.json()["detail"]
    assert not degraded(server)["engine"]["reachable"]
    assert (api.status(running), api.status(stopped)) == ("running", "stopped")
    code, words = doctor(server)
    assert code == 1
    assert "does not answer: no such socket" in words
    for sandbox in sandboxes:
        sandbox.kill()
    door.open()
    is_well(server)
    remembers(api, running)
    api.start(stopped)
    remembers(api, stopped)


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_network_that_is_gone_is_made_again_and_leads_to_the_relay(
    api: Api, server: ServerProcess, engine: docker.DockerClient, running: str, is_removed: bool
) -> None:
    network = open_network(engine, server.store_id)
    # More often than a sandbox may die: this is no death of its own.
    for _ in range(DEATHS_ALLOWED + 1 if is_removed else 1):
        network.disconnect(container_of(engine, api, running), force=True)
        if is_removed:
            network.remove()
        remembers(api, running)
        network = open_network(engine, server.store_id)
    relay_url = health(server)["relay"]["url"]
    script = f"node -e \"fetch('{relay_url}/nothing').then(({{status}}) => console.log(status))\""
    assert inside(container_of(engine, api, running), script) == (0, "404\n")
