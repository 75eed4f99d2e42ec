"""A server that is killed at any moment of mixed work: what was answered stays true.

The agents are not real: what they keep is kept by their sandboxes, as it would be of real ones.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.api import Api
from tests.e2e.containers import containers, names_of_sandboxes
from tests.e2e.ledger import Client
from tests.e2e.serving import ServerProcess
from tests.e2e.waiting import eventually
from tests.e2e.whole_life import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.docker, pytest.mark.slow]

KILLS = int(os.environ.get("CHOWDER_TEST_KILLS", "3"))
"""More of them show more."""
CLIENTS = 3
LONGEST_LIFE_S = 1.0
SETTLE_TIMEOUT_S = 60.0
REFUSED_PAUSE_S = 0.1
STATES = {"running": {"running"}, "stopped": {"paused", "exited"}}
"""The states of its container by the status of an instance; no other status is left at the end."""


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    image: str,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """One with a warm sandbox, so that claims are cut off, too."""
    settings = {
        "CHOWDER_IMAGE": image,
        "CHOWDER_OFFLINE": "true",
        "CHOWDER_WARM_POOL_SIZE": "1",
        "CHOWDER_RECONCILE_INTERVAL_S": "0.5",
    }
    server = ServerProcess(tmp_path_factory.mktemp("kill") / "data", settings)
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


def agree(server: ServerProcess, api: Api, engine: docker.DockerClient) -> bool:
    """Whether each instance has a sandbox in its state, and there are besides only the pool's."""
    url = server.base_url.replace("/v1", "/local/health")
    pool = httpx.get(url).json()["pool"]["ready"]
    ours = {row["sandbox_id"]: STATES[row["status"]] for row in api.get("instances").json()}
    found = names_of_sandboxes(engine, server.store_id)
    states = {each.name: each.status for each in containers(engine, server.store_id)}
    are_right = all(states.get(name) in wanted for name, wanted in ours.items())
    return are_right and len(found - ours.keys()) == pool == 1


# Servers are killed and started again and again.
def test_what_was_answered_is_true_after_a_kill_at_any_moment(
    server: ServerProcess, engine: docker.DockerClient
) -> None:
    seed = random.randrange(10**6)
    log.info("seed %d", seed)
    chance = random.Random(seed)
    with ExitStack() as stack:
        apis = [stack.enter_context(Api(server.base_url, server.key)) for _ in range(CLIENTS)]
        clients = [Client(api, random.Random(chance.random())) for api in apis]
        threads = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for kill in range(KILLS):
            is_over = Event()
            working = [threads.submit(work, client, is_over) for client in clients]
            is_over.wait(chance.uniform(0.0, LONGEST_LIFE_S))
            server.kill()
            is_over.set()
            for each in working:
                each.result()
            server.up()
            for client in clients:
                client.settle()
            done = sum((each.counts for each in clients), Counter())
            log.info("kill %d: %s", kill + 1, dict(done))
        eventually(
            lambda: agree(server, apis[0], engine), "store and engine agree", SETTLE_TIMEOUT_S
        )
        for client in clients:
            for told in client.gone:
                assert told.id is not None
                assert apis[0].status(told.id) == "terminated"
