"""Agents copied on a real engine: forked, taken back, and carried from one server to another."""

from __future__ import annotations

import io
import tarfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

    from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.docker

SPARE_TIMEOUT_S = 180.0
ASKED = "What did I just ask you?"
COLOUR, CODE = "My colour is teal.", "The code is 4711."
NOTES = "workspace/notes.md"
OVERRIDES = {"agents.defaults.thinkingDefault": "off"}


@pytest.fixture
def session() -> str:
    """A conversation of the test's own with the agent that is copied."""
    return f"Größe {uuid.uuid4()}"


@pytest.fixture
def original(api: Api, patient: str, session: str) -> str:
    """The agent that is copied, with an override, a file and two conversations."""
    changed = api.patch(f"instances/{patient}", json={"openclaw_config": OVERRIDES})
    assert changed.status_code == 200, changed.text
    tell(api, patient, session)
    return patient


def tell(api: Api, instance_id: str, session: str) -> None:
    """Gives an agent a file and two conversations."""
    api.say(instance_id, COLOUR)
    api.say(instance_id, CODE, session=session)
    write(api, instance_id, "teal")


def with_spares(server: ServerProcess, count: int) -> None:
    """Restarts the server with another number of spares."""
    server.down()
    server.env["CHOWDER_POOL_SIZE"] = str(count)
    server.up()


def spare_is_ready(server: ServerProcess) -> None:
    eventually(lambda: spares_ready(server) == 1, "a spare is ready", SPARE_TIMEOUT_S)


def spares_ready(server: ServerProcess) -> int:
    url = f"http://127.0.0.1:{server.port}/local/health"
    ready: int = httpx.get(url).json()["pool"]["ready"]
    return ready


def local(api: Api, method: str, path: str, **more: Any) -> httpx.Response:
    root = str(api.base_url).removesuffix("/v1/")
    answer = api.request(method, f"{root}/local/{path}", **more)
    assert answer.is_success, answer.text
    return answer


def copied(api: Api, path: str, **more: Any) -> str:
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


def assert_history(api: Api, instance_id: str, session: str) -> None:
    """Fails unless an agent has the file and the named conversation of the original."""
    answer = api.say(instance_id, ASKED, session=session)
    assert f'Turn 2. You said: "{ASKED}" Before that: "{CODE}"' in answer
    assert read(api, instance_id) == "teal"


def booted(server: ServerProcess) -> int:
    """How many boots of instances have ended well."""
    told = httpx.get(f"http://127.0.0.1:{server.port}/local/metrics").text
    count = 'chowder_boot_duration_seconds_count{outcome="ready"} '
    found = [line for line in told.splitlines() if line.startswith(count)]
    return sum(int(float(line.removeprefix(count))) for line in found)


def is_running(container: Container, words: str) -> bool:
    return any(words in " ".join(row) for row in container.top()["Processes"])


# OpenClaw boots twice: as what it was, and as the fork.
def test_an_agent_becomes_what_it_was_and_a_fork_of_a_snapshot_is_its_equal(
    server: ServerProcess, api: Api, original: str, session: str, engine: docker.DockerClient
) -> None:
    api.stop(original)
    body = {"name": "seeded"}
    snapshot = local(api, "POST", f"instances/{original}/snapshots", json=body).json()
    assert api.status(original) == "stopped"
    api.start(original)
    first = api.say(original, ASKED)
    assert f'You said: "{ASKED}" Before that: "{COLOUR}"' in first
    write(api, original, "later")
    body = {"name": "fork"}
    fork = local(api, "POST", f"snapshots/{snapshot['id']}/fork", json=body).json()["id"]
    body = {"snapshot_id": snapshot["id"]}
    restored = local(api, "POST", f"instances/{original}/restore", json=body).json()["id"]
    assert restored == original
    for each in (restored, fork):
        api.until(each, "running")
        assert api.say(each, ASKED) == first
        assert_history(api, each, session)
    write(api, fork, "blue")
    assert read(api, original) == "teal"
    configs = [config_of(container_of(engine, api, each)) for each in (original, fork)]
    for config in configs:
        assert config["agents"]["defaults"]["thinkingDefault"] == "off"
    assert configs[0]["gateway"]["auth"] != configs[1]["gateway"]["auth"]
    assert snapshot["id"] in [each["id"] for each in local(api, "GET", "snapshots").json()]
    local(api, "DELETE", f"snapshots/{snapshot['id']}")
    archives = server.data_dir / "snapshots"
    eventually(lambda: not list(archives.glob(f"*{snapshot['id']}*")), "its archive is gone")
    assert api.delete(f"instances/{fork}").status_code == 204


# OpenClaw boots once, and has the first turn by which a spare is warmed up.
@pytest.mark.slow
def test_a_fork_knows_what_was_said_goes_its_own_way_and_takes_a_spare(
    server: ServerProcess, api: Api, instance: str, session: str, engine: docker.DockerClient
) -> None:
    # Not one that may have had channels: it takes a boot to bring another to their credentials.
    original = instance
    tell(api, original, session)
    with_spares(server, 1)
    spare_is_ready(server)
    before = booted(server)
    way = f"way-{session}"
    with ThreadPoolExecutor(1) as beside:
        # A turn under way is let end, and is part of what is copied.
        turn = beside.submit(api.say, original, 'call exec {"command": "sleep 1"}', session=way)
        running = container_of(engine, api, original)
        eventually(lambda: is_running(running, "sleep 1"), "the turn is under way")
        fork = copied(api, f"instances/{original}/fork", json={"name": "fork"})
        assert turn.result(timeout=60)
    assert booted(server) == before
    # The next one would only cost time.
    with_spares(server, 0)
    answer = api.say(fork, ASKED, session=way)
    assert "Turn 2." in answer
    assert "sleep 1" in answer
    assert_history(api, fork, session)
    write(api, fork, "blue")
    assert read(api, original) == "teal"
    assert "Turn 2." in api.say(original, ASKED, session=way)
    config, theirs = (config_of(container_of(engine, api, each)) for each in (fork, original))
    assert config["agents"]["defaults"]["thinkingDefault"] == "off"
    assert config["gateway"]["auth"] != theirs["gateway"]["auth"]
    assert api.get(f"instances/{fork}").json()["openclaw_config"].items() >= OVERRIDES.items()
    assert api.delete(f"instances/{fork}").status_code == 204


# OpenClaw boots twice: as what is exported, and from what was imported.
@pytest.mark.slow
def test_an_agent_goes_to_another_server_without_what_is_of_this_one(
    server: ServerProcess, api: Api, session: str, engine: docker.DockerClient
) -> None:
    # One of its own: in what others have heard there may be anything.
    original = api.created("original", openclaw_config=OVERRIDES)
    api.until(original, "running")
    tell(api, original, session)
    planted: dict[str, Any] = {
        "env.vars.MINE": "of-this-one-1",
        "channels.telegram.botToken": "of-this-one-2",
        # Nobody is to look for Telegram meanwhile.
        "channels.telegram.enabled": False,
    }
    changed = api.patch(f"instances/{original}", json={"openclaw_config": planted})
    assert changed.status_code == 200, changed.text
    content = local(api, "GET", f"instances/{original}/export").content
    config = config_of(container_of(engine, api, original))
    secrets = [
        config["gateway"]["auth"]["token"],
        config["models"]["providers"]["chowder-openai"]["apiKey"],
        server.key,
        "relay.local",
        "of-this-one",
    ]
    assert [each for each in secrets if each.encode() in content] == []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = tar.getnames()
    assert names[0] == "chowder-agent.json"
    assert ".openclaw/state/openclaw.sqlite" not in names
    with Api(server.base_url, "none") as other:
        key = other.post("organization/signup", json={"name": "elsewhere"}).json()["api_key"]
    with Api(server.base_url, key) as other:
        keys = {"model_api_keys": {"anthropic": "offline"}}
        assert other.patch("organization", json=keys).status_code == 200
        kind = {"Content-Type": "application/x-tar"}
        imported = copied(other, "instances/import", content=content, headers=kind)
        assert_history(other, imported, session)
        assert other.delete(f"instances/{imported}").status_code == 204
    assert api.delete(f"instances/{original}").status_code == 204
