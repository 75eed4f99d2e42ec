"""Row: an agent on a swarm of three machines, compared with one on a single machine."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.comparison import compare
from benchmarks.results import Goal, Outcome, Rule
from benchmarks.samples import alternately, column, paired_difference
from benchmarks.servers import Server
from benchmarks.waiting import NotMeasured, took_ms, until
from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.server_container import build_server
from tests.e2e.three_nodes import ThreeNodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample, Samples

ROUNDS = 10
MESSAGES = 10
"""For each round, in turn: a turn of OpenClaw varies by more than a way through a worker takes."""
CREATE_BOUND_MS = 400
MESSAGE_BOUND_MS = 8
FREEZE_BOUND_MS = 150
NODES_TIMEOUT_S = 300.0


class StackServer(Server):
    """The server of a stack, which answers at another address than this machine's."""

    def __init__(self, bench: Bench, url: str, key: str) -> None:
        super().__init__(bench.folder / "stack", {})
        self._url = url
        self._key = key

    @property
    def url(self) -> str:
        return self._url

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}


def swarm(bench: Bench) -> Outcome:
    """A warm create, messages, a stop and a start on each, in turn."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.server(WARM_POOL_SIZE="1") as single, stack_server(bench) as stack:
        servers = {"ours": stack, "single": single}
        agents = {name: each.create()[0] for name, each in servers.items()}

        def lifecycle(name: str) -> Sample:
            # Nothing is measured while either makes its next warm sandbox.
            for each in servers.values():
                each.wait_for_pool(1)
            return _lifecycle(servers[name], agents[name])

        def message(name: str) -> Sample:
            return {"message": servers[name].say(agents[name], "Hello.")}

        def in_turn(measured: Callable[[str], Sample], count: int) -> Samples:
            subjects = {name: partial(measured, name) for name in servers}
            return alternately(subjects, count, 1, bench.progress)

        taken, messages = in_turn(lifecycle, rounds), in_turn(message, rounds * MESSAGES)
    more = paired_difference(*(column(messages[name], "message") for name in servers))
    measures = (
        *(
            compare(
                taken, metric, what, "ms", "single", "one machine", Goal(Rule.AT_MOST, bound_ms)
            )
            for metric, what, bound_ms in (
                ("create", "POST /v1/instances → running, warm", CREATE_BOUND_MS),
                ("stop", "POST …/stop", FREEZE_BOUND_MS),
                ("start", "POST …/start", FREEZE_BOUND_MS),
            )
        ),
        compare(
            messages,
            "message",
            "a message",
            "ms",
            "single",
            "one machine",
            Goal(Rule.MORE_AT_MOST, MESSAGE_BOUND_MS),
            more=more,
        ),
    )
    note = (
        "The three machines are engines in namespaces of one machine, so the network costs little."
    )
    return Outcome("swarm", "Three machines", measures, 1, (note,))


def _lifecycle(server: Server, agent: dict[str, Any]) -> Sample:
    created, create_ms = server.create()
    server.delete(created)
    server.wait_for_pool(1)
    path = f"/v1/instances/{agent['id']}"
    return {
        "create": create_ms,
        "stop": took_ms(lambda: server.call("POST", f"{path}/stop")),
        "start": took_ms(lambda: server.call("POST", f"{path}/start")),
    }


@contextmanager
def stack_server(bench: Bench) -> Iterator[Server]:
    """The server of a new stack, once it is linked to all machines. Raises NotMeasured."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotMeasured("it needs root on Linux")
    settings = Settings()
    build_server(settings, bench.progress, env=bench.env)
    nodes = ThreeNodes(bench.folder / "nodes", expected_tag(settings))
    try:
        bench.progress("starting three engines (about a minute)")
        nodes.start()
        nodes.deploy({"CHOWDER_WARM_POOL_SIZE": "1", "CHOWDER_WARM_POOL_MAX": "1"})
        key = until(nodes.server_key, "the server has made a key", NODES_TIMEOUT_S)
        url = f"http://{nodes.manager.address}:2469"
        with StackServer(bench, url, key) as server:
            until(lambda: _is_linked(server), "all nodes are linked", NODES_TIMEOUT_S, 1.0)
            yield server
    finally:
        nodes.remove()


def _is_linked(server: Server) -> bool:
    nodes = server.call("GET", "/local/health")["nodes"]
    return [each["is_linked"] for each in nodes] == [True] * 3
