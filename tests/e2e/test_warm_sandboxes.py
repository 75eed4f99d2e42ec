"""Warm sandboxes of real OpenClaw: whoever gets one does not see that it was not booted for him."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from chowder_local.client import Client
from chowder_local.openclaw.jobs import PLACEHOLDER
from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of, inside
from tests.e2e.copies import ASKED, assert_history, copied, local, read, tell, write
from tests.e2e.serving import RECONCILE_INTERVAL, ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.warm_sandboxes import made_of, wait_until_released, warm_sandbox_of
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container

pytestmark = [pytest.mark.docker, pytest.mark.long]

SETTINGS = {
    "CHOWDER_RELEASE_STOPPED_AFTER_S": "1",
}
"""A warm sandbox is frozen at once; the memory of a stopped agent is released after a second."""
COLD = {"CHOWDER_WARM_POOL_SIZE": "0", "CHOWDER_HIBERNATE_AFTER_S": "86400"}
POOLED = COLD | {"CHOWDER_WARM_POOL_SIZE": "1"}
HIBERNATING = POOLED | {"CHOWDER_HIBERNATE_AFTER_S": "2"}
OVERRIDES = {
    "agents.defaults.thinkingDefault": "off",
    "plugins.entries.memory-core.config.dreaming.enabled": False,
}
"""Agents dream at three in the night; from then on only a boot brings another to their state."""
HOME = "/data/.openclaw"
HELLO = "Hello there."
JOB = {
    "name": "soon",
    "enabled": True,
    # Due so soon that it is not worth the agent's while to leave memory.
    "schedule": {"kind": "every", "everyMs": 170_000},
    "sessionTarget": "isolated",
    "wakeMode": "now",
    "payload": {"kind": "agentTurn", "message": "Good morning."},
}


@dataclass(frozen=True)
class Seen:
    """An agent as it was before anybody but this test had talked with it."""

    instance_id: str
    container: Container
    made: dict[str, Any]
    config: dict[str, Any]
    sessions: list[dict[str, Any]]
    """What it tells of its conversations."""
    remains: str
    """What is on its disk of a conversation."""
    identity: str
    answer: str
    workspace: str
    """After its first answer, with which OpenClaw makes it."""


@dataclass(frozen=True)
class Returned:
    """What has become of two idle agents."""

    former: Container
    """Where the one was that has hibernated."""
    warm_sandbox: Container
    """What was ready when it was sent a message."""
    container: Container
    """Where it is since its message."""
    config: dict[str, Any]
    answer: str
    """What a person in Telegram got who brought it back, and had said hello before."""
    has_stayed: bool
    """Whether the other, which has a job that is due soon, was in memory all the time."""


@pytest.fixture(scope="module")
def openclaw(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """A server of these tests' own, because it is ended to have other settings."""
    server = ServerProcess(
        tmp_path_factory.mktemp("warm sandboxes") / "data", SETTINGS, {RECONCILE_INTERVAL: 1}
    )
    with served(server, engine, request.config):
        yield server


# OpenClaw boots for its instance, as the warm sandbox that `claimed` gets, and as the one in which
# that agent comes back.
@pytest.fixture(scope="module")
def booted(openclaw: ServerProcess, engine: docker.DockerClient) -> Seen:
    run_with(openclaw, COLD)
    return seen(openclaw, engine, "booted")


@pytest.fixture(scope="module")
def claimed(booted: Seen, openclaw: ServerProcess, engine: docker.DockerClient) -> Seen:
    run_with(openclaw, POOLED)
    warm_sandbox = warm_sandbox_of(openclaw, engine)
    claimed = seen(openclaw, engine, "claimed")
    assert claimed.container.id == warm_sandbox.id
    return claimed


@pytest.fixture(scope="module")
def returned(
    openclaw: ServerProcess, booted: Seen, claimed: Seen, engine: docker.DockerClient
) -> Returned:
    """The claimed agent has left memory, and came back for a message, with all that it had."""
    with_a_job, idle, session = booted.instance_id, claimed.instance_id, "errands"
    run_with(openclaw, POOLED)
    warm_sandbox = warm_sandbox_of(openclaw, engine)
    with Api(openclaw.base_url, openclaw.key) as api:
        job = called(api, with_a_job, "cron.add", JOB)
        tell(api, idle, session)
        # As servers leave them that are killed while they set a clock, and 0.2.0 did without a key.
        called(api, idle, "cron.add", {**PLACEHOLDER})
        of_0_2 = {key: each for key, each in PLACEHOLDER.items() if key != "declarationKey"}
        called(api, idle, "cron.add", of_0_2)
        connected = api.post(
            f"instances/{idle}/channels/telegram/connect", json={"config": {"offline": True}}
        )
        assert connected.json()["status"] == "connected", connected.text
        answer_in_telegram(api, idle, "Hello", approve=True)
        former = container_of(engine, api, idle)
        run_with(openclaw, HIBERNATING)
        eventually(lambda: is_hibernated(api, idle), "the idle agent hibernates")
        assert api.status(idle) == "running"
        eventually(lambda: has_ended(engine, str(former.id)), "its container has ended")
        # The older one was looked at before it.
        has_stayed = not is_hibernated(api, with_a_job)
        answer = answer_in_telegram(api, idle, "Are you back?")
        assert_history(api, idle, session)
        container = container_of(engine, api, idle)
        config = config_of(container)
        listed = called(api, idle, "cron.list", {"includeDisabled": True})["jobs"]
        assert not [each for each in listed if each["name"] == PLACEHOLDER["name"]]
        # The next one would only cost time.
        run_with(openclaw, COLD)
        called(api, with_a_job, "cron.remove", {"id": job["id"]})
    return Returned(former, warm_sandbox, container, config, answer, has_stayed)


@pytest.fixture
def api(openclaw: ServerProcess) -> Iterator[Api]:
    with Api(openclaw.base_url, openclaw.key) as api:
        yield api


@pytest.fixture
def session() -> str:
    """A conversation of the test's own."""
    return f"Größe {uuid.uuid4()}"


def seen(server: ServerProcess, engine: docker.DockerClient, name: str) -> Seen:
    """A new agent, once it runs and has been looked at."""
    with Api(server.base_url, server.key) as api:
        instance_id = api.created(name, model_provider="openai", openclaw_config=OVERRIDES)
        api.until(instance_id, "running")
        container = container_of(engine, api, instance_id)
        config = without_tokens(config_of(container), container)
        sessions = local(api, "GET", f"instances/{instance_id}/sessions").json()["sessions"]
        remains = remains_on(container)
        answer = api.say(instance_id, HELLO)
        return Seen(
            instance_id, container, made_of(container), config,
            [{key: each[key] for key in ("key", "messages")} for each in sessions],
            remains, identity_of(container), answer, workspace_of(container),
        )  # fmt: skip


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


def identity_of(container: Container) -> str:
    program = f"""
import sqlite3
database = sqlite3.connect("file:{HOME}/state/openclaw.sqlite?mode=ro", uri=True)
question = "SELECT group_concat(public_key_pem) FROM device_identities"
print(database.execute(question).fetchone()[0])
"""
    code, said = inside(container, f"python3 -c {shlex.quote(program)}")
    assert code == 0, said
    return said.strip()


def remains_on(container: Container) -> str:
    """OpenClaw's tables with rows of conversations, and the files with words of a warm-up."""
    program = f"""
import os, sqlite3
for name in ("agents/main/agent/openclaw-agent.sqlite", "state/openclaw.sqlite"):
    if not os.path.exists("{HOME}/" + name):  # Before the first turn.
        continue
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
    words = r"agent:main:s-|resp_|\[offline\]|Hello\."
    code, found = inside(container, f"grep -rlaE '{words}' {HOME}")
    assert code in {0, 1}, found
    return said + found


def run_with(server: ServerProcess, settings: dict[str, str]) -> None:
    """Restarts the server with other settings, unless it has them."""
    if not settings.items() <= server.env.items():
        server.down()
        server.env |= settings
        server.up()


def boots_of(server: ServerProcess) -> int:
    """How many boots of instances have ended well."""
    told = httpx.get(f"http://127.0.0.1:{server.port}/local/metrics").text
    count = 'chowder_boot_duration_seconds_count{outcome="ready"} '
    found = [line for line in told.splitlines() if line.startswith(count)]
    return sum(int(float(line.removeprefix(count))) for line in found)


def called(api: Api, instance_id: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """What an agent's gateway answers to a control call, as OpenClaw's own programs make them."""
    gateway = local(api, "GET", f"instances/{instance_id}/gateway").json()
    answer = httpx.post(
        f"{gateway['gateway_url']}/api/v1/admin/rpc",
        json={"method": method, "params": params},
        headers={"Authorization": f"Bearer {gateway['token']}"},
    )
    assert answer.json()["ok"], answer.text
    payload: dict[str, Any] = answer.json()["payload"]
    return payload


def answer_in_telegram(api: Api, instance_id: str, text: str, **more: Any) -> str:
    """What a person gets who writes in Telegram on this machine."""
    body = {"from": "Ada", "text": text, "wait_s": 60, **more}
    path = f"instances/{instance_id}/channels/telegram/messages"
    (answer,) = local(api, "POST", path, json=body, timeout=90).json()["answers"]
    return str(answer["text"])


def is_hibernated(api: Api, instance_id: str) -> bool:
    return bool(local(api, "GET", f"instances/{instance_id}").json()["is_hibernated"])


def has_ended(engine: docker.DockerClient, container_id: str) -> bool:
    (found,) = engine.containers.list(all=True, filters={"id": container_id})
    return found.status == "exited"


def is_running(container: Container, words: str) -> bool:
    return any(words in " ".join(row) for row in container.top()["Processes"])


def test_a_claimed_agent_is_like_one_that_was_booted_for_its_instance(
    booted: Seen, claimed: Seen
) -> None:
    # Of its warm-up nothing is left, on the whole of its disk.
    assert claimed.remains == ""
    assert claimed.sessions == [{"key": "agent:main:main", "messages": 0}]
    assert claimed.made == booted.made
    assert claimed.config == booted.config
    assert claimed.config["agents"]["defaults"]["model"]["primary"] == "chowder-openai/gpt-4o"
    assert claimed.config["agents"]["defaults"]["thinkingDefault"] == "off"
    assert claimed.sessions == booted.sessions
    # Both have had no turn that anybody knows of.
    assert claimed.answer == booted.answer == f'[offline] Turn 1. You said: "{HELLO}"'
    assert claimed.workspace == booted.workspace
    # The image brings their database along, without anything that is one agent's own.
    assert claimed.identity != booted.identity
    assert all("BEGIN PUBLIC KEY" in each.identity for each in (claimed, booted))


# OpenClaw boots once: as the warm sandbox.
def test_a_fork_knows_what_was_said_goes_its_own_way_and_takes_a_warm_sandbox(
    openclaw: ServerProcess, api: Api, booted: Seen, session: str, engine: docker.DockerClient
) -> None:
    original = booted.instance_id
    tell(api, original, session)
    run_with(openclaw, POOLED)
    warm_sandbox = warm_sandbox_of(openclaw, engine)
    before = boots_of(openclaw)
    way = f"way-{session}"
    with ThreadPoolExecutor(1) as beside:
        # A turn under way is let end, and is part of what is copied.
        turn = beside.submit(api.say, original, 'call exec {"command": "sleep 1"}', session=way)
        eventually(lambda: is_running(booted.container, "sleep 1"), "the turn is under way")
        fork = copied(api, f"instances/{original}/fork", json={"name": "fork"})
        assert turn.result(timeout=60)
    assert container_of(engine, api, fork).id == warm_sandbox.id
    assert boots_of(openclaw) == before
    run_with(openclaw, COLD)
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
    assert api.get(f"instances/{fork}").json()["openclaw_config"] == OVERRIDES
    assert api.delete(f"instances/{fork}").status_code == 204


def test_an_idle_agent_leaves_memory_and_its_next_message_finds_all_it_had(
    returned: Returned, engine: docker.DockerClient
) -> None:
    assert returned.has_stayed
    # A person's message has brought it back, in their conversation.
    assert returned.answer.endswith('Before that: "Hello"')
    assert returned.container.id == returned.warm_sandbox.id
    assert returned.config["agents"]["defaults"]["thinkingDefault"] == "off"
    assert returned.former.name not in {each.name for each in engine.volumes.list()}


# OpenClaw boots once: from what was imported.
@pytest.mark.nightly
@pytest.mark.usefixtures("returned")
def test_an_agent_goes_to_another_server_without_what_is_of_this_one(
    openclaw: ServerProcess, api: Api, claimed: Seen, session: str, engine: docker.DockerClient
) -> None:
    run_with(openclaw, COLD)
    original = claimed.instance_id
    tell(api, original, session)
    planted: dict[str, Any] = {
        "env.vars.MINE": "of-this-one-1",
        "channels.telegram.botToken": "of-this-one-2",
        # Nobody is to look for Telegram meanwhile.
        "channels.telegram.enabled": False,
    }
    changed = api.patch(f"instances/{original}", json={"openclaw_config": planted})
    assert changed.status_code == 200, changed.text
    container = container_of(engine, api, original)
    config = config_of(container)
    # OpenClaw itself ends cleanly, and is read while its memory is released.
    with Client(openclaw.base_url, openclaw.key) as client:
        sessions = client.sessions(original)
        transcript = client.transcript(original, session)
        api.stop(original)
        wait_until_released(api, container, original)
        assert client.sessions(original) == sessions
        assert client.transcript(original, session) == transcript
    content = local(api, "GET", f"instances/{original}/export").content
    secrets = [
        config["gateway"]["auth"]["token"],
        config["models"]["providers"]["chowder-openai"]["apiKey"],
        openclaw.key,
        "relay.local",
        "of-this-one",
    ]
    assert [each for each in secrets if each.encode() in content] == []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = tar.getnames()
    assert names[0] == "chowder-agent.json"
    assert ".openclaw/state/openclaw.sqlite" not in names
    with Api(openclaw.base_url, "none") as other:
        key = other.post("organization/signup", json={"name": "elsewhere"}).json()["api_key"]
    with Api(openclaw.base_url, key) as other:
        keys = {"model_api_keys": {"anthropic": "offline", "openai": "offline"}}
        assert other.patch("organization", json=keys).status_code == 200
        kind = {"Content-Type": "application/x-tar"}
        imported = copied(other, "instances/import", content=content, headers=kind)
        assert_history(other, imported, session)
