"""Agents copied on a real engine: forked, taken back, and carried from one server to another."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of, containers, volumes
from tests.e2e.serving import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container

pytestmark = pytest.mark.docker

SPARE_TIMEOUT_S = 180.0
SESSION = "Größe 1"
ASKED = "What did I just ask you?"
COLOUR, CODE = "My colour is teal.", "The code is 4711."
NOTES = "workspace/notes.md"
OVERRIDES = {"agents.defaults.thinkingDefault": "off"}


@pytest.fixture(scope="module")
def pooled(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server that keeps one spare."""
    settings = {"CHOWDER_POOL_SIZE": "1", "CHOWDER_RECONCILE_INTERVAL_S": "1"}
    server = ServerProcess(tmp_path_factory.mktemp("copies") / "data", settings)
    with served(server, engine, request.config):
        yield server


@pytest.fixture
def api(pooled: ServerProcess) -> Iterator[Api]:
    with Api(pooled.base_url, pooled.key) as api:
        yield api


@pytest.fixture(scope="module")
def shared_original(pooled: ServerProcess) -> Iterator[str]:
    with Api(pooled.base_url, pooled.key) as api:
        instance_id = create_original(api)
        yield instance_id
        assert api.delete(f"instances/{instance_id}").status_code == 204


@pytest.fixture
def original(api: Api, shared_original: str) -> str:
    """The agent that is copied. A test restores its file and overrides.

    It continues only its main conversation, without counting turns, or one of the test's own.
    """
    api.until(shared_original, "running")
    return shared_original


def create_original(api: Api) -> str:
    """A new agent with two conversations and a file."""
    instance_id = api.created("original", openclaw_config=OVERRIDES)
    api.until(instance_id, "running")
    api.say(instance_id, COLOUR)
    api.say(instance_id, CODE, session=SESSION)
    write(api, instance_id, "teal")
    return instance_id


def assert_history(api: Api, instance_id: str) -> None:
    """Fails unless an agent has the file and the named conversation of the original."""
    answer = api.say(instance_id, ASKED, session=SESSION)
    assert f'Turn 2. You said: "{ASKED}" Before that: "{CODE}"' in answer
    assert read(api, instance_id) == "teal"


def spare_is_ready(pooled: ServerProcess) -> None:
    eventually(lambda: spares_ready(pooled) == 1, "a spare is ready", SPARE_TIMEOUT_S)


def spares_ready(pooled: ServerProcess) -> int:
    url = f"http://127.0.0.1:{pooled.port}/local/health"
    ready: int = httpx.get(url).json()["pool"]["ready"]
    return ready


def local(api: Api, method: str, path: str, **more: Any) -> httpx.Response:
    root = str(api.base_url).removesuffix("/v1/")
    answer = api.request(method, f"{root}/local/{path}", **more)
    assert answer.is_success, answer.text
    return answer


def made(api: Api, path: str, **more: Any) -> str:
    """The id of a copy, once it is running."""
    instance_id: str = local(api, "POST", path, **more).json()["id"]
    api.until(instance_id, "running")
    return instance_id


def write(api: Api, instance_id: str, content: str) -> None:
    body = {"path": NOTES, "content": content}
    assert api.put(f"instances/{instance_id}/files/content", json=body).status_code == 204


def read(api: Api, instance_id: str) -> str:
    answer = api.get(f"instances/{instance_id}/files/content", params={"path": NOTES})
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["content"]
    return content


def booted(pooled: ServerProcess) -> int:
    """How many boots of instances have ended well."""
    told = httpx.get(f"http://127.0.0.1:{pooled.port}/local/metrics").text
    count = 'chowder_boot_duration_seconds_count{outcome="ready"} '
    found = [line for line in told.splitlines() if line.startswith(count)]
    return sum(int(float(line.removeprefix(count))) for line in found)


def is_running(container: Container, words: str) -> bool:
    return any(words in " ".join(row) for row in container.top()["Processes"])


def test_an_agent_becomes_what_it_was_and_a_fork_of_a_snapshot_is_its_equal(
    server: ServerProcess, engine: docker.DockerClient
) -> None:
    with Api(server.base_url, server.key) as api:
        original = create_original(api)
        api.stop(original)
        body = {"name": "seeded"}
        snapshot = local(api, "POST", f"instances/{original}/snapshots", json=body).json()
        assert api.status(original) == "stopped"
        api.start(original)
        first = api.say(original, ASKED)
        assert f'Turn 2. You said: "{ASKED}" Before that: "{COLOUR}"' in first
        write(api, original, "later")
        body = {"name": "fork"}
        fork = local(api, "POST", f"snapshots/{snapshot['id']}/fork", json=body).json()["id"]
        body = {"snapshot_id": snapshot["id"]}
        restored = local(api, "POST", f"instances/{original}/restore", json=body).json()["id"]
        assert restored == original
        for each in (restored, fork):
            api.until(each, "running")
            assert api.say(each, ASKED) == first
            assert_history(api, each)
        write(api, fork, "blue")
        assert read(api, original) == "teal"
        configs = [config_of(container_of(engine, api, each)) for each in (original, fork)]
        for config in configs:
            assert config["agents"]["defaults"]["thinkingDefault"] == "off"
        assert configs[0]["gateway"]["auth"] != configs[1]["gateway"]["auth"]
        local(api, "DELETE", f"snapshots/{snapshot['id']}")
        for each in (original, fork):
            assert api.delete(f"instances/{each}").status_code == 204


@pytest.mark.slow
def test_a_fork_that_gets_a_spare_which_still_boots_needs_no_other_boot(
    pooled: ServerProcess, api: Api, original: str, engine: docker.DockerClient
) -> None:
    spare_is_ready(pooled)
    before = booted(pooled)
    path = f"instances/{original}/fork"
    first: str = local(api, "POST", path, json={"name": "first"}).json()["id"]
    others = len(api.get("instances").json())
    eventually(lambda: len(containers(engine, pooled.store_id)) > others, "a spare boots")
    assert spares_ready(pooled) == 0
    second = made(api, path, json={"name": "second"})
    api.until(first, "running")
    assert booted(pooled) == before
    for fork in (first, second):
        assert_history(api, fork)
        assert api.delete(f"instances/{fork}").status_code == 204


@pytest.mark.slow
def test_a_fork_knows_what_was_said_and_goes_its_own_way(
    pooled: ServerProcess, api: Api, original: str, engine: docker.DockerClient
) -> None:
    spare_is_ready(pooled)
    before = booted(pooled)
    with ThreadPoolExecutor(1) as beside:
        # A turn under way is let end, and is part of what is copied.
        turn = beside.submit(api.say, original, 'call exec {"command": "sleep 1"}', session="way")
        running = container_of(engine, api, original)
        eventually(lambda: is_running(running, "sleep 1"), "the turn is under way")
        fork = made(api, f"instances/{original}/fork", json={"name": "fork"})
        assert turn.result(timeout=60)
    assert booted(pooled) == before
    answer = api.say(fork, ASKED, session="way")
    assert "Turn 2." in answer
    assert "sleep 1" in answer
    assert_history(api, fork)
    write(api, fork, "blue")
    assert read(api, original) == "teal"
    assert "Turn 2." in api.say(original, ASKED, session="way")
    config = config_of(container_of(engine, api, fork))
    assert config["agents"]["defaults"]["thinkingDefault"] == "off"
    theirs = config_of(container_of(engine, api, original))
    assert config["gateway"]["auth"] != theirs["gateway"]["auth"]
    shown = api.get(f"instances/{fork}").json()
    assert shown["openclaw_config"] == OVERRIDES
    # What it was brought to is on its volume, too.
    container_of(engine, api, fork).kill()
    eventually(lambda: api.status(fork) == "provisioning", "its death is seen")
    api.until(fork, "running")
    assert f'Before that: "{ASKED}"' in api.say(fork, ASKED, session="way")
    assert api.delete(f"instances/{fork}").status_code == 204


@pytest.mark.slow
def test_an_agent_becomes_what_it_was_without_a_boot_of_its_own(
    pooled: ServerProcess, api: Api, original: str, engine: docker.DockerClient
) -> None:
    snapshot = local(api, "POST", f"instances/{original}/snapshots", json={"name": "seeded"}).json()
    first = api.say(original, ASKED)
    write(api, original, "later")
    spare_is_ready(pooled)
    before = booted(pooled)
    restored = made(api, f"instances/{original}/restore", json={"snapshot_id": snapshot["id"]})
    assert (restored, booted(pooled)) == (original, before)
    assert (api.say(original, ASKED), read(api, original)) == (first, "teal")
    # None is ready just now: it gets what boots, or is booted with its home put on the volume.
    fork = made(api, f"snapshots/{snapshot['id']}/fork", json={"name": "Bea"})
    assert api.say(fork, ASKED) == first
    assert_history(api, fork)
    assert [each["id"] for each in local(api, "GET", "snapshots").json()] == [snapshot["id"]]
    local(api, "DELETE", f"snapshots/{snapshot['id']}")
    assert api.delete(f"instances/{fork}").status_code == 204
    eventually(lambda: list((pooled.data_dir / "snapshots").iterdir()) == [], "no archive is left")
    known = {row["sandbox_id"] for row in api.get("instances").json()}
    left = {str(volume.name) for volume in volumes(engine, pooled.store_id)} - known
    # The spare's, or that of the next one.
    assert len(left) <= 1


@pytest.mark.slow
def test_an_agent_goes_to_another_server_without_what_is_of_this_one(
    pooled: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    # Its own: what is planted stays.
    original = create_original(api)
    planted: dict[str, Any] = {
        "env.vars.MINE": "planted-1",
        "channels.telegram.botToken": "planted-2",
        # Nobody is to look for Telegram meanwhile.
        "channels.telegram.enabled": False,
    }
    changed = api.patch(f"instances/{original}", json={"openclaw_config": planted})
    assert changed.status_code == 200, changed.text
    api.say(original, "A turn with that in mind.", session="mind")
    config = config_of(container_of(engine, api, original))
    content = local(api, "GET", f"instances/{original}/export").content
    secrets = [
        config["gateway"]["auth"]["token"],
        config["models"]["providers"]["chowder-openai"]["apiKey"],
        pooled.key,
        "relay.local",
        "planted",
    ]
    assert [each for each in secrets if each.encode() in content] == []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = tar.getnames()
    assert names[0] == "chowder-agent.json"
    assert ".openclaw/state/openclaw.sqlite" not in names
    with Api(pooled.base_url, "none") as other:
        key = other.post("organization/signup", json={"name": "elsewhere"}).json()["api_key"]
    with Api(pooled.base_url, key) as other:
        keys = {"model_api_keys": {"anthropic": "offline"}}
        assert other.patch("organization", json=keys).status_code == 200
        imported = made(
            other,
            "instances/import",
            content=content,
            headers={"Content-Type": "application/x-tar"},
        )
        assert "A turn with that in mind." in other.say(imported, ASKED, session="mind")
        assert_history(other, imported)
        assert other.delete(f"instances/{imported}").status_code == 204
    assert api.delete(f"instances/{original}").status_code == 204
