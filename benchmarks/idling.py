"""Rows: agents that nobody used for a while, and those that have left memory."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.comparison import compare
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately, first_and_later
from benchmarks.waiting import ms_since, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

    Instance = Mapping[str, Any]

ROUNDS = 3
SILENT_MIN = (2, 10)
FROZEN_MIN = (2, 30)
BOUND_MS = 500
LEAVING = {
    "RELEASE_STOPPED_AFTER_S": "0.1",
    "HIBERNATE_AFTER_S": "0.1",
    "REUSE": "off",
}
"""Agents leave memory as soon as they are stopped, or not used, and keep their sandboxes."""


def silence(bench: Bench) -> Outcome:
    """The first message to running agents after some minutes, compared with the next ones."""
    with bench.server(HIBERNATE_AFTER_S="86400") as server:
        agents = [server.create()[0] for _ in SILENT_MIN]
        for agent in agents:
            first_and_later(partial(server.say, agent))
        waits = zip(
            SILENT_MIN, (partial(lambda agent: agent, each) for each in agents), strict=True
        )
        measures = _after(bench, server, waits, "of silence", 2)
    return Outcome("silence", "A message after silence", measures)


def frozen(bench: Bench) -> Outcome:
    """The first message to new agents whose warm sandboxes were frozen for some minutes.

    The next warm sandbox is made meanwhile, during this message as during the next ones.
    """
    with bench.server(WARM_POOL_SIZE=str(len(FROZEN_MIN))) as server:
        server.wait_for_pool(len(FROZEN_MIN))
        waits = ((minutes, lambda: server.create()[0]) for minutes in FROZEN_MIN)
        measures = _after(bench, server, waits, "frozen", 1.5)
    return Outcome("frozen", "The first message after a long freeze", measures)


def _after(
    bench: Bench,
    server: Server,
    waits: Iterable[tuple[int, Callable[[], Instance]]],
    what: str,
    bound: float,
) -> tuple[Measure, ...]:
    """A measure for each wait in minutes, which all began when this is called."""
    began_s = time.monotonic()
    measures = []
    for minutes, take in waits:
        bench.progress(f"waiting: {minutes} minutes {what}")
        # These minutes are what the row is about; no event ends them.
        time.sleep(max(0.0, began_s + 60 * minutes - time.monotonic()))
        sample = first_and_later(partial(server.say, take()))
        measures.append(
            Measure(
                f"the first message after {minutes} minutes {what}",
                "ms",
                sample["first"],
                sample["later"],
                "median of the next",
                Goal(Rule.RATIO_AT_MOST, bound),
            )
        )
    return tuple(measures)


def released(bench: Bench) -> Outcome:
    """The start of an agent whose memory was given back, with a warm sandbox and without."""

    def leave(server: Server, path: str) -> None:
        server.call("POST", f"/v1{path}/stop")

    def start(server: Server, path: str) -> None:
        server.call("POST", f"/v1{path}/start")

    measure = _with_and_without(bench, leave, start, "start of a released agent")
    return Outcome("released", "Start of a released agent", (measure,))


def wake(bench: Bench) -> Outcome:
    """A call of a hibernated agent's files, with a warm sandbox and without."""

    def leave(server: Server, path: str) -> None:
        until(
            lambda: server.call("GET", f"/local{path}")["is_hibernated"],
            "the agent hibernates",
            poll_s=0.1,
        )

    def look(server: Server, path: str) -> None:
        server.call("GET", f"/v1{path}/files")

    what = "a call that wakes a hibernated agent"
    measure = _with_and_without(bench, leave, look, what)
    return Outcome("wake", "Wake of a hibernated agent", (measure,))


def _with_and_without(
    bench: Bench,
    leave: Callable[[Server, str], None],
    come_back: Callable[[Server, str], None],
    what: str,
) -> Measure:
    """The time to come back into memory, in a warm sandbox and by a boot."""
    rounds = bench.rounds_or(ROUNDS)
    with (
        bench.agent(**LEAVING, WARM_POOL_SIZE="1") as (pooled, pooled_agent),
        bench.agent(**LEAVING, WARM_POOL_SIZE="0") as (plain, plain_agent),
    ):
        paths = {
            server: f"/instances/{agent['id']}"
            for server, agent in ((pooled, pooled_agent), (plain, plain_agent))
        }

        def leave_memory(server: Server) -> None:
            leave(server, paths[server])
            container = bench.sandbox(server.call("GET", f"/v1{paths[server]}"))

            def is_gone() -> bool:
                container.reload()
                return bool(container.status == "exited")

            until(is_gone, "the agent has left memory")

        def taken_by(server: Server) -> Sample:
            bench.settle()
            pooled.wait_for_pool(1)
            began_s = time.perf_counter()
            come_back(server, paths[server])
            took_ms = ms_since(began_s)
            # The other is measured next, and this one must not leave memory meanwhile.
            leave_memory(server)
            return {"ms": took_ms}

        for server in paths:
            leave_memory(server)

        subjects = {"boot": partial(taken_by, plain), "ours": partial(taken_by, pooled)}
        taken = alternately(subjects, rounds, 0, bench.progress)
    goal = Goal(Rule.AT_MOST, BOUND_MS)
    return compare(taken, "ms", what, "ms", "boot", "by a boot", goal)
