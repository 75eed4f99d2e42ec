"""Agents that are there before anybody asks, and stopped ones that are only on disk."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.client import Client
from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of, inside
from tests.e2e.quick_agents import RELEASE, open_quick_server
from tests.e2e.serving import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker
    from docker.models.containers import Container

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SPARE_TIMEOUT_S = 180.0
POOL = {
    "CHOWDER_POOL_SIZE": "1",
    "CHOWDER_FREEZE_AFTER_S": "0",
    "CHOWDER_RELEASE_AFTER_S": "1",
    "CHOWDER_RECONCILE_INTERVAL_S": "1",
}
"""One frozen spare; the memory of a stopped agent is released after a second."""
OVERRIDES = {"agents.defaults.thinkingDefault": "off"}
HOME = "/data/.openclaw"


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
def openclaw(
    tmp_path: Path, engine: docker.DockerClient, request: pytest.FixtureRequest
) -> Iterator[ServerProcess]:
    """A server with the real image, and without spares."""
    server = ServerProcess(tmp_path / "data", POOL | {"CHOWDER_POOL_SIZE": "0"})
    with served(server, engine, request.config):
        yield server


@pytest.fixture
def api(pooled: ServerProcess) -> Iterator[Api]:
    with Api(pooled.base_url, pooled.key) as api:
        yield api


def spare_of(pooled: ServerProcess, engine: docker.DockerClient) -> Container:
    """The spare, once it is ready: the one sandbox that no instance has."""
    url = pooled.base_url.replace("/v1", "/local/health")
    eventually(
        lambda: httpx.get(url).json()["pool"]["ready"] == 1, "a spare is ready", SPARE_TIMEOUT_S
    )
    with Api(pooled.base_url, pooled.key) as api:
        taken = {row["sandbox_id"] for row in api.get("instances").json()}
    label = f"dev.chowder-local.store={pooled.store_id}"
    found = engine.containers.list(filters={"label": label, "status": "paused"})
    (spare,) = (each for each in found if each.name not in taken)
    return spare


def made_of(container: Container) -> dict[str, Any]:
    """What the engine was asked for, without what is a container's own."""
    container.reload()
    name = str(container.name)
    asked = {key: container.attrs[key] for key in ("Config", "HostConfig", "Args", "Path")}
    text = json.dumps(asked, sort_keys=True).replace(name, "NAME")
    known: dict[str, Any] = json.loads(text)
    return known


def without_tokens(config: dict[str, Any], container: Container) -> dict[str, Any]:
    # When OpenClaw wrote the file the last time is no part of what it says.
    text = json.dumps({key: value for key, value in config.items() if key != "meta"})
    token = config["gateway"]["auth"]["token"]
    relay_token = config["models"]["providers"]["chowder-openai"]["apiKey"]
    known: dict[str, Any] = json.loads(text.replace(token, "TOKEN").replace(relay_token, "RELAY"))
    return known


def workspace_of(container: Container) -> str:
    files = f"find {HOME}/workspace -type f -not -path '*/.git/*'"
    code, said = inside(container, f"{files} | sort | xargs sha256sum")
    assert code == 0, said
    return said


def asked_of_its_database(container: Container, question: str) -> str:
    program = f"""
import sqlite3
database = sqlite3.connect("file:{HOME}/state/openclaw.sqlite?mode=ro", uri=True)
print(database.execute({question!r}).fetchone()[0])
"""
    code, said = inside(container, f"python3 -c {shlex.quote(program)}")
    assert code == 0, said
    return said.strip()


def rows_of_conversations(container: Container) -> str:
    """The tables of OpenClaw's that have any, by what their columns are called."""
    program = f"""
import sqlite3
for name in ("agents/main/agent/openclaw-agent.sqlite", "state/openclaw.sqlite"):
    database = sqlite3.connect(f"file:{HOME}/{{name}}?mode=ro", uri=True)
    columns = "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
    of_conversations = "c.name IN ('session_id', 'session_key', 'run_id')"
    found = database.execute(f"{{columns}} WHERE m.type = 'table' AND {{of_conversations}}")
    for table, column in found.fetchall():
        if database.execute(f'SELECT 1 FROM "{{table}}" WHERE {{column}} IS NOT NULL').fetchone():
            print(table, column)
"""
    code, said = inside(container, f"python3 -c {shlex.quote(program)}")
    assert code == 0, said
    return said


def tool(pooled: ServerProcess, instance_id: str, name: str, **args: Any) -> dict[str, Any]:
    """What a tool of the agent's own says when the gateway is asked for it."""
    with Api(pooled.base_url, pooled.key) as api:
        root = pooled.base_url.removesuffix("/v1")
        known = api.get(f"{root}/local/instances/{instance_id}/gateway").json()
    answer = httpx.post(
        f"{known['gateway_url']}/tools/invoke",
        headers={"Authorization": f"Bearer {known['token']}"},
        json={"tool": name, "args": args},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    details: dict[str, Any] = answer.json()["result"]["details"]
    return details


def set_pool_size(server: ServerProcess, count: int) -> None:
    """Restarts the server with another number of spares."""
    server.down()
    server.env["CHOWDER_POOL_SIZE"] = str(count)
    server.up()


def wait_until_released(api: Api, container: Container, instance_id: str) -> None:
    """Waits until the container of a stopped agent has exited by itself."""

    def has_ended() -> bool:
        container.reload()
        return container.status == "exited"

    eventually(has_ended, "the container has exited")
    assert container.attrs["State"]["ExitCode"] == 0
    assert api.status(instance_id) == "stopped"


# OpenClaw boots three times: for its instance, as a spare, and from what was released.
def test_a_claimed_agent_is_like_one_that_was_booted_for_its_instance(
    openclaw: ServerProcess, engine: docker.DockerClient
) -> None:
    with Api(openclaw.base_url, openclaw.key) as api:
        booted_id = api.created("booted", model_provider="openai", openclaw_config=OVERRIDES)
        api.until(booted_id, "running")
        booted = container_of(engine, api, booted_id)
        set_pool_size(openclaw, 1)
        spare = spare_of(openclaw, engine)
        claimed_id = api.created("claimed", model_provider="openai", openclaw_config=OVERRIDES)
        api.until(claimed_id, "running")
        claimed = container_of(engine, api, claimed_id)
        assert claimed.id == spare.id
        # Its successor would only cost time.
        set_pool_size(openclaw, 0)
        # Of its warm-up nothing is left, on the whole of its disk.
        assert rows_of_conversations(claimed) == ""
        words = r"agent:main:s-|resp_|\[offline\]|Hello\."
        assert inside(claimed, f"grep -rlaE '{words}' {HOME}") == (1, "")
        with Api(openclaw.base_url.removesuffix("/v1"), openclaw.key) as local:
            told = local.get(f"local/instances/{claimed_id}/sessions").json()["sessions"]
        assert [(each["key"], each["messages"]) for each in told] == [("agent:main:main", 0)]

        assert made_of(claimed) == made_of(booted)
        configs = [without_tokens(config_of(each), each) for each in (claimed, booted)]
        assert configs[0] == configs[1]
        assert configs[0]["agents"]["defaults"]["model"]["primary"] == "chowder-openai/gpt-4o"
        assert configs[0]["agents"]["defaults"]["thinkingDefault"] == "off"
        for each_id in (claimed_id, booted_id):
            assert tool(openclaw, each_id, "sessions_list", limit=100)["sessions"] == []
        # Both have had no turn that anybody knows of; the workspace is made by the first.
        answers = [api.say(each_id, "Hello there.") for each_id in (claimed_id, booted_id)]
        assert answers[0] == answers[1] == '[offline] Turn 1. You said: "Hello there."'
        assert workspace_of(claimed) == workspace_of(booted)
        # The image brings their database along, without anything that is one agent's own.
        identity = "SELECT group_concat(public_key_pem) FROM device_identities"
        identities = {asked_of_its_database(each, identity) for each in (claimed, booted)}
        assert len(identities) == 2
        assert all("BEGIN PUBLIC KEY" in each for each in identities)
        # OpenClaw itself exits cleanly, too, is read meanwhile, and starts with its conversations.
        with Client(openclaw.base_url, openclaw.key) as client:
            sessions, transcript = client.sessions(claimed_id), client.transcript(claimed_id)
            assert transcript["turns"][0]["text"] == "Hello there."
            api.stop(claimed_id)
            wait_until_released(api, claimed, claimed_id)
            assert client.sessions(claimed_id) == sessions
            assert client.transcript(claimed_id) == transcript
        api.start(claimed_id)
        assert 'Before that: "Hello there."' in api.say(claimed_id, "Still there?")


def test_a_restarted_server_keeps_its_spare_and_a_killed_one_is_replaced(
    pooled: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    spare = spare_of(pooled, engine)
    pooled.kill()
    pooled.up()
    assert spare_of(pooled, engine).id == spare.id
    spare.kill()
    pooled.down()
    pooled.up()
    other = spare_of(pooled, engine)
    assert other.id != spare.id
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

        (container,) = eventually(look, "the next spare boots")
        return container

    with Api(held.base_url, held.key) as api:
        assert inside(booting(), RELEASE) == (0, "")
        spare = spare_of(held, engine)
        first_id = api.created("first")
        api.until(first_id, "running")
        first = container_of(engine, api, first_id)
        assert first.id == spare.id
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
    spare_of(pooled, engine)
    instance_id = api.created("sleeper")
    api.until(instance_id, "running")
    api.say(instance_id, "The tide turns at noon.")
    api.stop(instance_id)
    wait_until_released(api, container_of(engine, api, instance_id), instance_id)
    api.start(instance_id)
    assert api.say(instance_id, "Still there?") == "Turn 2. First: The tide turns at noon."
    assert api.delete(f"instances/{instance_id}").status_code == 204
