"""Row: forks in a row, as tests make them, and restores, on sandboxes that are used again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import middle
from benchmarks.waiting import ms_since

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

ROUNDS = 20
POOL = 2
CREATES_PART = 4
"""A create for so many forks: each is a boot."""


def forks(bench: Bench) -> Outcome:
    """Forks with a message each, and restores; messages to one agent, and creates with a boot."""
    rounds = bench.rounds_or(ROUNDS)
    with (
        bench.server(WARM_POOL_SIZE=str(POOL), REUSE="on") as server,
        bench.server(REUSE="off") as plain,
    ):
        server.wait_for_pool(POOL)
        origin, _ = server.create()
        server.say(origin, "The first sentence.")
        server.wait_for_pool(POOL)

        def fork() -> None:
            instance, _ = server.fork(origin)
            server.say(instance, "Hello.")
            server.delete(instance)

        def create() -> None:
            instance, _ = plain.create()
            plain.say(instance, "Hello.")
            plain.delete(instance)

        bench.progress("messages to one agent")
        messages = [server.say(origin, "Hello.") for _ in range(rounds)]
        bench.progress("forks with a message each")
        forked = _times(fork, rounds)
        snapshot = server.call("POST", f"/local/instances/{origin['id']}/snapshots", {})
        bench.progress("restores")
        restored = []
        for _ in range(rounds):
            restored.append(server.restore(origin, snapshot["id"]))
            server.say(origin, "Hello.")
        bench.progress("creates with a message each")
        created = _times(create, max(1, rounds // CREATES_PART))
    samples = {"fork": forked, "message": messages, "create": created, "restore": restored}
    return Outcome(
        "forks",
        "Forks one after the other",
        (
            Measure(
                "a fork, its message, its end", "ms", sum(forked) / rounds,
                sum(messages) / rounds, "a message to one agent",
                Goal(Rule.RATIO_AT_MOST, 4.0), "mean", rounds, samples=samples,
            ),
            Measure(
                "the same", "ms", sum(forked) / rounds,
                sum(created) / len(created), "a create with a boot, its message, its end",
                Goal(Rule.RATIO_AT_MOST, 0.25), "mean", rounds,
            ),
            Measure(
                "a restore → running", "ms", middle(restored),
                goal=Goal(Rule.AT_MOST, 1000.0), rounds=rounds,
            ),
        ),
    )  # fmt: skip


def _times(work: Callable[[], None], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began_s = time.perf_counter()
        work()
        taken.append(ms_since(began_s))
    return taken
