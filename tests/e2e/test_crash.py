"""Servers, sandboxes and clients that end when nobody expects it, and what is true afterwards."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.api import BOOT_TIMEOUT_S, CLAUDE, responses_path
from tests.e2e.containers import container_of, names_of_sandboxes
from tests.e2e.stand_in import Slow
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker

    from tests.e2e.api import Api
    from tests.e2e.serving import ServerProcess
    from tests.e2e.stand_in import StandIn

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BEGIN_TIMEOUT_S = 60
LEAVE_TIMEOUT_S = 10


def rows(api: Api) -> dict[str, str]:
    return {row["id"]: row["status"] for row in api.get("instances").json()}


def our_sandboxes(engine: docker.DockerClient, server: ServerProcess) -> set[str]:
    return names_of_sandboxes(engine, server.store_id)


def test_a_server_killed_in_the_middle_of_a_create_goes_on_with_it(
    api: Api, server: ServerProcess, engine: docker.DockerClient
) -> None:
    before = our_sandboxes(engine, server)
    instance_id = api.created("interrupted")
    server.kill()
    server.up()
    assert rows(api)[instance_id] == "provisioning"
    eventually(lambda: our_sandboxes(engine, server) - before, "its sandbox is made")
    server.kill()
    server.up()
    assert rows(api)[instance_id] in {"provisioning", "running"}
    made = api.until(instance_id, "running")
    assert our_sandboxes(engine, server) - before == {made["sandbox_id"]}
    assert "Turn 1." in api.say(instance_id, "Are you whole?")
    assert api.delete(f"instances/{instance_id}").status_code == 204
    assert our_sandboxes(engine, server) == before


def test_a_server_killed_after_a_delete_began_ends_it(
    api: Api, server: ServerProcess, engine: docker.DockerClient
) -> None:
    before = our_sandboxes(engine, server)
    instance_id = api.created("doomed")
    eventually(lambda: our_sandboxes(engine, server) - before, "its sandbox is made")
    with ThreadPoolExecutor() as pool:
        deleting = pool.submit(api.delete, f"instances/{instance_id}")
        eventually(lambda: instance_id not in rows(api), "its row is gone from the list")
        server.kill()
        # Answered or cut off: both are a delete that has begun.
        assert isinstance(deleting.exception(), httpx.TransportError | None)
    server.up()
    assert instance_id not in rows(api)
    eventually(lambda: our_sandboxes(engine, server) == before, "its sandbox is gone")


def test_a_server_killed_in_the_middle_of_a_stream_loses_no_conversation(
    live: Api, live_instance: str, server: ServerProcess, stand_in: StandIn
) -> None:
    live.say(live_instance, "The password is swordfish.")
    slow = Slow()
    with (
        stand_in.behaving(slow),
        closing(live.events(live_instance, "Tell me a long story.")) as events,
    ):
        for event in events:
            if event["type"] == "response.output_text.delta":
                break
        server.kill()
        with pytest.raises(httpx.TransportError):
            list(events)
        assert slow.left.wait(LEAVE_TIMEOUT_S)
    server.up()
    assert rows(live) == {live_instance: "running"}
    stand_in.requests.clear()
    assert live.say(live_instance, "What was the password?")
    for words in ("swordfish", "Tell me a long story.", "What was the password?"):
        assert words in stand_in.requests[-1]


def test_a_server_that_ends_in_the_middle_of_a_stream_says_so_within_it(
    live: Api, live_instance: str, server: ServerProcess, stand_in: StandIn
) -> None:
    slow = Slow()
    with (
        stand_in.behaving(slow),
        closing(live.events(live_instance, "Tell me a long story.")) as events,
    ):
        for event in events:
            if event["type"] == "response.output_text.delta":
                break
        # Fails unless it ends with 0.
        server.down()
        # Up to `[DONE]`: a connection that broke would raise.
        *_, error, last = events
        assert slow.left.wait(LEAVE_TIMEOUT_S)
    assert (error["type"], last["type"]) == ("error", "response.failed")
    assert "the server is stopping" in error["message"]
    server.up()
    assert rows(live)[live_instance] == "running"
    assert live.say(live_instance, "Are you there?")


def test_a_server_that_ends_in_the_middle_of_a_turn_says_so_and_the_agent_goes_on(
    live: Api, live_instance: str, server: ServerProcess, stand_in: StandIn
) -> None:
    slow = Slow()
    with stand_in.behaving(slow), ThreadPoolExecutor() as pool:
        sending = pool.submit(live.message, live_instance, "Take your time.")
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        server.down()
        answer = sending.result()
    assert answer.status_code == 502
    assert "the server is stopping" in answer.json()["detail"]["error"]
    server.up()
    assert live.say(live_instance, "Are you there?")


def test_a_sandbox_killed_in_the_middle_of_a_turn_is_a_502_and_heals(
    live: Api, live_instance: str, engine: docker.DockerClient, stand_in: StandIn
) -> None:
    live.say(live_instance, "My cat is called Schnurri.")
    slow = Slow()
    with stand_in.behaving(slow), ThreadPoolExecutor() as pool:
        sending = pool.submit(live.message, live_instance, "Go on.")
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        container_of(engine, live, live_instance).kill()
        answer = sending.result()
    assert answer.status_code == 502
    assert answer.json()["detail"] == {"error": answer.json()["error"]["message"]}
    assert answer.json()["detail"]["error"].startswith("Gateway unavailable – ")
    live.until(live_instance, "running")
    stand_in.requests.clear()
    assert live.say(live_instance, "What is my cat called?")
    assert "Schnurri" in stand_in.requests[-1]


def test_a_sandbox_that_ended_while_the_server_was_down_is_made_again(
    api: Api, server: ServerProcess, patient: str, engine: docker.DockerClient
) -> None:
    api.say(patient, "Do not forget me.")
    killed = container_of(engine, api, patient)
    server.down()
    killed.kill()
    server.up()
    assert rows(api)[patient] == "provisioning"
    api.until(patient, "running")
    assert container_of(engine, api, patient).id != killed.id
    assert 'Before that: "Do not forget me."' in api.say(patient, "Still there?")


@pytest.mark.parametrize("end", ["kill", "remove"])
def test_a_stopped_sandbox_that_has_ended_boots_at_start(
    api: Api, patient: str, engine: docker.DockerClient, end: str
) -> None:
    api.say(patient, "See you.")
    api.stop(patient)
    container = container_of(engine, api, patient)
    if end == "kill":
        container.kill()
    else:
        container.remove(force=True)
    assert api.status(patient) == "stopped"
    started = api.post(f"instances/{patient}/start")
    assert (started.status_code, started.json()["status"]) == (200, "running")
    assert 'Before that: "See you."' in api.say(patient, "Here I am.")


def test_a_sandbox_that_somebody_paused_or_woke_is_put_right(
    api: Api, patient: str, engine: docker.DockerClient
) -> None:
    container_of(engine, api, patient).pause()
    eventually(lambda: container_of(engine, api, patient).status == "running", "it is unpaused", 30)
    assert api.say(patient, "Awake?")
    api.stop(patient)
    container_of(engine, api, patient).unpause()
    eventually(lambda: container_of(engine, api, patient).status == "paused", "it is paused", 30)
    assert api.status(patient) == "stopped"


def test_a_client_that_leaves_a_stream_ends_the_run(
    live: Api, live_instance: str, stand_in: StandIn
) -> None:
    slow = Slow()
    with (
        stand_in.behaving(slow),
        closing(live.events(live_instance, "Tell me a long story.")) as events,
    ):
        next(events)
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        events.close()
        assert slow.left.wait(LEAVE_TIMEOUT_S)
    assert live.say(live_instance, "Never mind.")


def test_a_client_that_leaves_before_a_whole_answer_ends_the_run(
    live: Api, server: ServerProcess, live_instance: str, stand_in: StandIn
) -> None:
    slow = Slow()
    body = json.dumps({"model": CLAUDE, "input": "Tell me a long story."})
    headers = {
        "Authorization": live.headers["Authorization"],
        "Content-Type": "application/json",
    }
    with (
        stand_in.behaving(slow),
        closing(HTTPConnection("127.0.0.1", server.port)) as connection,
    ):
        path = f"/v1/{responses_path(live_instance)}"
        connection.request("POST", path, body=body, headers=headers)
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        connection.close()
        assert slow.left.wait(LEAVE_TIMEOUT_S)
    assert live.say(live_instance, "Never mind.")


def test_a_stop_waits_for_the_turn_that_is_running(
    live: Api, live_instance: str, stand_in: StandIn
) -> None:
    slow = Slow()
    with stand_in.behaving(slow), ThreadPoolExecutor() as pool:
        sending = pool.submit(live.say, live_instance, "Take your time.")
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        stopping = pool.submit(live.post, f"instances/{live_instance}/stop")
        slow.go_on()
        assert sending.result() == Slow.WORDS
        assert stopping.result().json()["status"] == "stopped"
    live.start(live_instance)
    assert live.say(live_instance, "Thanks.")


def test_a_turn_that_is_too_long_for_a_stop_goes_on_after_the_start(
    live: Api, live_instance: str, stand_in: StandIn
) -> None:
    slow = Slow()
    with stand_in.behaving(slow), ThreadPoolExecutor() as pool:
        sending = pool.submit(live.say, live_instance, "Take all the time of the world.")
        assert slow.begun.wait(BEGIN_TIMEOUT_S)
        assert live.post(f"instances/{live_instance}/stop").json()["status"] == "stopped"
        assert live.post(f"instances/{live_instance}/start").json()["status"] == "running"
        slow.go_on()
        assert sending.result() == Slow.WORDS
    assert live.say(live_instance, "Thanks.")


def test_a_boot_that_fails_says_why_in_openclaws_words_and_can_be_deleted(
    api: Api, server: ServerProcess, engine: docker.DockerClient
) -> None:
    before = our_sandboxes(engine, server)
    # No schema tells this one; OpenClaw finds it out on its way up.
    instance_id = api.created("misconfigured", openclaw_config={"hooks.enabled": True})

    def failed() -> dict[str, Any] | None:
        instance: dict[str, Any] = api.get(f"instances/{instance_id}").json()
        return None if instance["status"] == "provisioning" else instance

    instance = eventually(failed, "the boot has failed", BOOT_TIMEOUT_S)
    assert instance["status"] == "error"
    assert "hooks.enabled requires hooks.token" in instance["error_message"]
    # It does not set about repairing itself with a model that somebody pays for.
    root = str(api.base_url).removesuffix("/v1/")
    assert "riage" not in api.get(f"{root}/local/instances/{instance_id}/logs").text
    assert instance["gateway_url"] is None
    for move in ("stop", "start"):
        assert api.post(f"instances/{instance_id}/{move}").status_code == 409
    assert api.message(instance_id, "Hello?").status_code == 409
    assert api.delete(f"instances/{instance_id}").status_code == 204
    assert our_sandboxes(engine, server) == before


def test_a_configuration_that_is_the_servers_own_is_refused(api: Api) -> None:
    body = {"name": "greedy", "openclaw_config": {"gateway": {"port": 1}}}
    answer = api.post("instances", json=body)
    assert answer.status_code == 400
    assert "gateway.port" in answer.json()["detail"]
    assert "greedy" not in {row["name"] for row in api.get("instances").json()}


def test_an_agent_can_be_deleted_while_it_boots(
    api: Api, server: ServerProcess, engine: docker.DockerClient
) -> None:
    before = our_sandboxes(engine, server)
    instance_id = api.created("short-lived")
    eventually(lambda: our_sandboxes(engine, server) - before, "its sandbox is made")
    assert api.delete(f"instances/{instance_id}").status_code == 204
    assert api.status(instance_id) == "terminated"
    assert our_sandboxes(engine, server) == before
