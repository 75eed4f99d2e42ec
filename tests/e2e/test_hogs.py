"""An agent that takes all that it can get meets its limits, and its neighbours notice nothing.

Neither is real: a program in a sandbox meets the sandbox's limits, whatever else runs there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e.containers import container_of, inside
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import docker
    from docker.models.containers import Container

    from tests.e2e.api import Api

pytestmark = pytest.mark.docker

LOG_BYTES_MAX = 3 * 10 * 1024 * 1024

FORK_BOMB = """
import os, signal, time
children = []
try:
    while True:
        if (child := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except OSError as refused:
    print(refused.strerror, flush=True)
time.sleep(1)
for child in children:
    os.kill(child, signal.SIGKILL)
print(len(children))
"""
# OpenClaw offers the programs that its tools run to the kernel before itself (linux-oom-score.ts).
MEMORY_HOG = """
with open("/proc/self/oom_score_adj", "w") as score:
    score.write("1000")
held = []
while True:
    held.append(b"x" * (16 << 20))
"""
MEMORY_HOGS = """
import ctypes, os, signal
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)
for _ in range(8):
    if os.fork() == 0:
        # Those that the kernel leaves would keep the memory, and the pipe to whose end one reads.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        held = [b"x" * (1 << 20) for _ in range(120)]
        signal.pause()
# The first that the kernel takes, if it does not take this one.
os.wait()
"""
DESCRIPTOR_HOG = """
import os
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as refused:
    print(refused.strerror, len(held))
"""
LOG_HOG = """
line = b"a line of a log that nobody will ever read " * 20 + b"\\n"
with open("/proc/1/fd/1", "wb", buffering=0) as log:
    for _ in range(45_000):
        log.write(line)
"""


@pytest.fixture
def api(quick_api: Api) -> Api:
    return quick_api


@pytest.fixture
def hog(quick_ids: list[str]) -> str:
    return quick_ids[0]


@pytest.fixture
def neighbour(quick_ids: list[str]) -> str:
    return quick_ids[1]


@pytest.fixture
def sandbox(api: Api, engine: docker.DockerClient, hog: str) -> Container:
    return container_of(engine, api, hog)


def run(container: Container, program: str) -> tuple[int, str]:
    """As an agent's tool would be run."""
    code, output = container.exec_run(["python3", "-c", program])
    assert isinstance(output, bytes)
    assert code is not None
    return code, output.decode(errors="replace")


def meanwhile(done: Callable[[], tuple[int, str]], api: Api, neighbour: str) -> tuple[int, str]:
    """What comes of it, while a neighbour goes on answering."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(done)
        turns = 0
        while not doing.done() or not turns:
            assert api.say(neighbour, f"Are you there? {turns}")
            turns += 1
        return doing.result()


def test_a_fork_bomb_fills_its_own_sandbox_alone(
    api: Api, sandbox: Container, hog: str, neighbour: str
) -> None:
    code, said = meanwhile(lambda: run(sandbox, FORK_BOMB), api, neighbour)
    assert code == 0, said
    refused, count = said.split("\n")[:2]
    assert refused == "Resource temporarily unavailable"
    assert 0 < int(count) < 512
    assert api.say(hog, "Are you well again?")


def test_a_memory_hog_ends_and_its_agent_goes_on(
    api: Api, sandbox: Container, hog: str, neighbour: str
) -> None:
    started = sandbox.attrs["State"]["StartedAt"]
    code, _ = meanwhile(lambda: run(sandbox, MEMORY_HOG), api, neighbour)
    assert code == 137
    sandbox.reload()
    assert sandbox.attrs["State"]["StartedAt"] == started
    assert api.say(hog, "Are you well again?")


def test_many_small_memory_hogs_may_end_the_sandbox_and_it_comes_back_with_its_files(
    api: Api, engine: docker.DockerClient, sandbox: Container, hog: str, neighbour: str
) -> None:
    assert inside(sandbox, "echo kept > /data/.openclaw/kept.txt") == (0, "")
    # Whichever process the kernel takes: if it is the agent's own, all of it ends.
    meanwhile(lambda: run(sandbox, MEMORY_HOGS), api, neighbour)

    def is_well() -> bool:
        found = api.get(f"instances/{hog}").json()
        assert found["status"] in {"running", "provisioning"}, found
        return found["status"] == "running" and api.message(hog, "Well?").status_code == 200

    eventually(is_well, "the agent answers again", 120)
    container = container_of(engine, api, hog)
    assert inside(container, "cat /data/.openclaw/kept.txt") == (0, "kept\n")


def test_a_hog_of_descriptors_gets_so_many_and_no_more(
    api: Api, sandbox: Container, hog: str, neighbour: str
) -> None:
    code, said = meanwhile(lambda: run(sandbox, DESCRIPTOR_HOG), api, neighbour)
    assert code == 0
    words, _, count = said.strip().rpartition(" ")
    assert words == "Too many open files"
    assert 16_000 < int(count) < 16_384
    assert api.say(hog, "Are you well?")


@pytest.mark.parametrize(("path", "most_mb"), [("/tmp", 256), ("/dev/shm", 64)])
def test_what_is_in_memory_is_full_before_memory_is(
    api: Api, sandbox: Container, hog: str, neighbour: str, path: str, most_mb: int
) -> None:
    script = f"exec 2>&1; dd if=/dev/zero of={path}/hog bs=1M; stat -c %s {path}/hog; rm {path}/hog"
    code, said = meanwhile(lambda: inside(sandbox, script), api, neighbour)
    assert code == 0, said
    assert "No space left on device" in said
    assert int(said.split()[-1]) <= most_mb << 20
    assert api.say(hog, "Are you well?")


def test_a_flood_of_the_log_leaves_the_last_of_it(
    api: Api, sandbox: Container, hog: str, neighbour: str
) -> None:
    code, said = meanwhile(lambda: run(sandbox, LOG_HOG), api, neighbour)
    assert code == 0, said
    kept = sum(len(chunk) for chunk in sandbox.logs(stream=True, follow=False))
    assert 10 * 1024 * 1024 < kept <= LOG_BYTES_MAX
    assert api.say(hog, "Are you well?")
