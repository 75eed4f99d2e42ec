"""A server or an engine that is killed at any moment of mixed work: what was answered stays true.

The agents are not real: what they keep is kept by their sandboxes, as it would be of real ones.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from threading import Event
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.api import BOOT_TIMEOUT_S, Api
from tests.e2e.containers import containers, names_of_sandboxes
from tests.e2e.ledger import Client
from tests.e2e.quick_image import quick_image
from tests.e2e.second_engine import is_apart, run_apart, second_engine
from tests.e2e.serving import RECONCILE_INTERVAL, ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

log = logging.getLogger(__name__)

pytestmark = pytest.mark.docker

KILLS = int(os.environ.get("CHOWDER_TEST_KILLS", "3"))
"""More of them show more."""
CLIENTS = 3
LONGEST_LIFE_S = 1.0
LONGEST_ENGINE_LIFE_S = 5.0
"""Long enough for agents that are back to be worked with."""
REFUSED_PAUSE_S = 0.1
SETTINGS = {
    "CHOWDER_OFFLINE": "true",
    # Claims of it are cut off, too.
    "CHOWDER_WARM_POOL_SIZE": "1",
}
CONSTANTS = {RECONCILE_INTERVAL: 0.5}
STATES: dict[str, set[str | None]] = {
    "running": {"running"},
    "stopped": {"paused", "exited", "created", None},
}
"""The states of its container by the status of an instance; no other status is left at the end.

A start that was cut off may leave the container of a stopped one unmade, or not started."""


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    image: str,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    settings = SETTINGS | {"CHOWDER_IMAGE": image}
    server = ServerProcess(tmp_path_factory.mktemp("kill") / "data", settings, CONSTANTS)
    with served(server, engine, request.config):
        yield server


def work(client: Client, is_over: Event) -> None:
    """Until the server is gone, or would soon be."""
    try:
        while not is_over.is_set():
            if not client.act():
                # It boots or is stopped: to ask on and on would keep others from working.
                is_over.wait(REFUSED_PAUSE_S)
    except httpx.TransportError:
        # Whatever it was may have happened or not, and is accounted for.
        return


def are_settled(server: ServerProcess, api: Api, engine: docker.DockerClient) -> bool:
    """Whether each instance has its sandbox in its state, but for those that have failed."""
    states = {each.name: each.status for each in containers(engine, server.store_id)}
    return all(
        states.get(row["sandbox_id"]) in STATES.get(row["status"], set())
        for row in api.get("instances").json()
        if row["status"] != "error"
    )


def agree(server: ServerProcess, api: Api, engine: docker.DockerClient) -> bool:
    """Whether all is settled, and there are besides only the pool's sandboxes."""
    url = server.base_url.replace("/v1", "/local/health")
    pool = httpx.get(url).json()["pool"]["ready"]
    ours = {row["sandbox_id"] for row in api.get("instances").json()}
    found = names_of_sandboxes(engine, server.store_id)
    return are_settled(server, api, engine) and len(found - ours) == pool == 1


def lose_nothing(
    server: ServerProcess,
    engine: docker.DockerClient,
    kill: Callable[[], None],
    restart: Callable[[Api], None],
    settle: Callable[[Client], None],
    longest_life_s: float,
) -> None:
    """Lets clients work, and kills what they need, again and again; fails if anything is lost."""
    seed = random.randrange(10**6)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    with ExitStack() as stack:
        apis = [stack.enter_context(Api(server.base_url, server.key)) for _ in range(CLIENTS)]
        clients = [Client(api, random.Random(chance.random())) for api in apis]
        threads = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for client in clients:
            settle(client)
        for number in range(KILLS):
            is_over = Event()
            working = [threads.submit(work, client, is_over) for client in clients]
            is_over.wait(chance.uniform(0.0, longest_life_s))
            kill()
            is_over.set()
            for each in working:
                each.result()
            restart(apis[0])
            for client in clients:
                settle(client)
            done = sum((each.counts for each in clients), Counter())
            log.info("kill %d: %s", number + 1, dict(done))
        eventually(lambda: agree(server, apis[0], engine), "store and engine agree", BOOT_TIMEOUT_S)
        for client in clients:
            for told in client.gone:
                assert told.id is not None
                assert apis[0].status(told.id) == "terminated"


# Servers are killed and started again and again.
def test_what_was_answered_is_true_after_a_kill_at_any_moment(
    server: ServerProcess, engine: docker.DockerClient
) -> None:
    lose_nothing(server, engine, server.kill, lambda _: server.up(), Client.settle, LONGEST_LIFE_S)


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine")
def test_what_was_answered_is_true_after_the_engine_is_killed(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not is_apart():
        run_apart(request)
        return
    with (
        second_engine() as second,
        closing(second.client()) as client,
        quick_image(client) as image,
    ):
        settings = SETTINGS | {"CHOWDER_IMAGE": image, "DOCKER_HOST": second.url}
        server = ServerProcess(tmp_path / "data", settings, CONSTANTS)

        def restart(api: Api) -> None:
            second.start()
            began_s = time.monotonic()
            eventually(lambda: are_settled(server, api, client), "agents are back", BOOT_TIMEOUT_S)
            log.info("agents are back after %.1f s", time.monotonic() - began_s)

        with served(server, client, request.config):
            lose_nothing(
                server, client, lambda: second.end(signal.SIGKILL), restart, Client.ensure_running,
                LONGEST_ENGINE_LIFE_S,
            )  # fmt: skip
