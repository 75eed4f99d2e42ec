"""Used sandboxes of real OpenClaw: who gets one next finds nothing of who had it before."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.api import Api
from tests.e2e.containers import config_of, container_of, containers, inside
from tests.e2e.copies import copied, local
from tests.e2e.serving import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.warm_sandboxes import warm_sandbox_of
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container

pytestmark = [pytest.mark.docker, pytest.mark.long]

SETTINGS = {"CHOWDER_WARM_POOL_SIZE": "1", "CHOWDER_WARM_POOL_MAX": "1"}
PLACES = (
    "/data/note",
    "/data/.cache/note",
    "/data/.openclaw/note",
    "/data/.openclaw/openclaw.json.bak.7",
    "/data/.openclaw/tmp/note",
    "/data/.openclaw/agents/main/agent/note",
    "/data/.openclaw/state/openclaw-quarantine.sqlite",
    "/data/.openclaw/workspace/skills/note/SKILL.md",
    "/data/.openclaw/workspace/MEMORY.md",
    "/data/.openclaw/workspace/memory/2026-01-01.md",
    "/tmp/note",
    "/tmp/openclaw/note.log",
    "/dev/shm/note",
    "/dev/shm/folder/note",
    "/tmp/folder/note",
    "/data/.openclaw/agents/main/folder/note",
)
PLANT = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.symlink("/data", "/tmp/link")
os.symlink("/data", "/data/.openclaw/state/link")
queue = libc.mq_open(b"/note", os.O_CREAT | os.O_RDWR, 0o600, None)
made = [libc.shmget(1, 4096, 0o1600), libc.msgget(1, 0o1600), libc.semget(1, 1, 0o1600)]
assert min(queue, *made) >= 0, (queue, made)
"""
KERNEL = """
cd /data/.openclaw
find /tmp /dev/shm /dev/mqueue state agents -name note -o -name link -o -name folder
for kind in shm msg sem; do sed 1d /proc/sysvipc/$kind; done
"""
READABLE = """
import glob, os
for process in glob.glob("/proc/[0-9]*"):
    name = open(process + "/cmdline").read()
    is_openclaws = name.startswith(("openclaw-gateway", "/usr/local/bin/node"))
    if is_openclaws and os.access(process + "/mem", os.R_OK):
        print(name)
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("reuse") / "data", SETTINGS)
    with served(server, engine, request.config):
        yield server


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    with Api(server.base_url, server.key) as api:
        answer = local(api, "PATCH", "organization", json={"reuses_sandboxes": True})
        assert answer.json() == {"reuses_sandboxes": True}
        yield api
        # What one test leaves to the next is destroyed: each begins with the pool's own sandbox.
        local(api, "PATCH", "organization", json={"reuses_sandboxes": False})


def created(api: Api, **fields: object) -> str:
    instance_id = api.created("reused", **fields)
    api.until(instance_id, "running")
    return instance_id


def in_warm_sandbox(
    server: ServerProcess, api: Api, engine: docker.DockerClient, secret: str
) -> tuple[str, Container]:
    """An agent in the former warm sandbox, with a secret in its configuration and conversation."""
    warm = warm_sandbox_of(server, engine)
    instance_id = created(api, openclaw_config={"messages.responsePrefix": secret})
    container = container_of(engine, api, instance_id)
    assert container.id == warm.id
    api.say(instance_id, f"Remember {secret}.")
    return instance_id, container


def created_in(api: Api, engine: docker.DockerClient, container: Container) -> str:
    """A new agent in that blank sandbox; the other warm one, if it is ready, may be taken first."""
    first = created(api)
    if container_of(engine, api, first).id == container.id:
        return first
    second = created(api)
    assert container_of(engine, api, second).id == container.id
    api.delete(f"instances/{first}")
    return second


def call(api: Api, instance_id: str, tool: str, arguments: str, **more: str) -> str:
    return api.say(instance_id, f"call {tool} {arguments}", **more)


def times_ready(server: ServerProcess, container: Container) -> int:
    """How often a sandbox has become a warm one that is ready."""
    return server.log().count(f"warm sandbox {container.name}: ready")


def found_in(container: Container, secret: str) -> str:
    """Where a text is in the files of a sandbox, also in what databases have freed."""
    code, found = inside(container, f"grep -rlaF {secret} /data /tmp /dev/shm")
    assert code in {0, 1}, found
    return found


# OpenClaw boots twice, as warm sandboxes: one is used, and one shows that it could be had.
def test_nothing_of_a_deleted_agent_is_left_in_the_sandbox_that_the_next_one_gets(
    server: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    former, container = in_warm_sandbox(server, api, engine, secret)
    api.say(former, f"Remember {secret} here, too.", session=f"way {secret}")
    call(api, former, "exec", f'{{"command": "echo {secret}"}}')
    for place in PLACES:
        code, said = inside(container, f"mkdir -p $(dirname {place}) && echo {secret} > {place}")
        assert code == 0, said
    assert found_in(container, secret).count("\n") > len(PLACES)
    for program in (PLANT, READABLE):
        assert inside(container, f"python3 -c '{program}'") == (0, "")
    assert len(inside(container, KERNEL)[1].splitlines()) > 8
    log = f"instances/{former}/logs"
    began = local(api, "GET", log).text

    before = times_ready(server, container)
    api.delete(f"instances/{former}")
    eventually(lambda: times_ready(server, container) > before, "the sandbox is blank again")
    following = created_in(api, engine, container)
    assert found_in(container, secret) == ""
    assert inside(container, KERNEL) == (0, "")
    assert secret not in str(config_of(container))
    assert secret not in str(container.top())
    listed = local(api, "GET", f"instances/{following}/sessions").json()["sessions"]
    assert [each["messages"] for each in listed] == [0]
    assert api.say(following, "Hello.") == '[offline] Turn 1. You said: "Hello."'
    for tool, arguments in (("process", '{"action": "list"}'), ("sessions_list", "{}")):
        answer = call(api, following, tool, arguments)
        assert tool in answer
        assert secret not in answer
    assert call(api, following, "exec", '{"command": "env; echo done"}').count(secret) == 0
    assert began
    assert secret not in local(api, "GET", f"instances/{following}/logs").text
    assert began.splitlines()[0] not in local(api, "GET", f"instances/{following}/logs").text
    # What the gateway does seconds after a message is over, too.
    eventually(lambda: found_in(container, "Hello.") != "", "the new conversation is stored")
    assert found_in(container, secret) == ""
    api.delete(f"instances/{following}")


@pytest.mark.nightly
def test_forks_in_a_row_need_no_boot_each(
    server: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    warm_sandbox_of(server, engine)
    original = created(api)
    warm_sandbox_of(server, engine)
    api.say(original, "The first sentence.")
    used = set()
    for name in ("one", "two", "three", "four"):
        fork = copied(api, f"instances/{original}/fork", json={"name": name})
        used.add(container_of(engine, api, fork).id)
        assert "The first sentence." in api.say(fork, f"I am {name}.")
        api.delete(f"instances/{fork}")
    # The next one may have begun before the former one was blank.
    assert len(used) <= 2
    assert "Turn 2." in api.say(original, "And you?")
    api.delete(f"instances/{original}")


@pytest.mark.nightly
def test_a_restore_takes_the_agents_own_sandbox_if_no_other_is_ready(
    server: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    local(api, "PATCH", "organization", json={"reuses_sandboxes": False})
    warm_sandbox_of(server, engine)
    instance_id = created(api)
    container = container_of(engine, api, instance_id)
    api.say(instance_id, "Before.")
    snapshot = local(api, "POST", f"instances/{instance_id}/snapshots", json={}).json()
    api.say(instance_id, "After.")
    # The other one is taken by then, or still boots.
    other = created(api)
    copied(api, f"instances/{instance_id}/restore", json={"snapshot_id": snapshot["id"]})
    assert 'You said: "Now?" Before that: "Before."' in api.say(instance_id, "Now?")
    assert container_of(engine, api, instance_id).id == container.id
    for each in (instance_id, other):
        api.delete(f"instances/{each}")


@pytest.mark.nightly
def test_a_sandbox_in_which_a_program_of_the_agents_still_runs_is_not_used_again(
    server: ServerProcess, api: Api, engine: docker.DockerClient
) -> None:
    warm_sandbox_of(server, engine)
    former = created(api)
    container = container_of(engine, api, former)
    code, said = inside(container, "nohup sleep 1000 > /dev/null 2>&1 &")
    assert code == 0, said
    api.delete(f"instances/{former}")
    eventually(
        lambda: container.id not in {each.id for each in containers(engine, server.store_id)},
        "the sandbox is destroyed",
    )
    assert f"sandbox {container.name}: is not used again" in server.log()
