"""Row: stop and start of an agent, compared with the engine's pause and unpause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.comparison import compare
from benchmarks.results import Goal, Outcome, Rule
from benchmarks.samples import alternately
from benchmarks.waiting import took_ms

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.samples import Sample

ROUNDS = 20
BOUND_MS = 100


def stop_start(bench: Bench) -> Outcome:
    """Both calls in each round, on an agent after a turn."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.agent() as (server, instance):
        sandbox = bench.sandbox(instance)
        path = f"/v1/instances/{instance['id']}"

        def ours() -> Sample:
            return {
                "stop": took_ms(lambda: server.call("POST", f"{path}/stop")),
                "start": took_ms(lambda: server.call("POST", f"{path}/start")),
            }

        def peer() -> Sample:
            return {"stop": took_ms(sandbox.pause), "start": took_ms(sandbox.unpause)}

        taken = alternately({"ours": ours, "engine": peer}, rounds, 2, bench.progress)
    measures = []
    for call, peer_name in (("stop", "the engine's pause"), ("start", "the engine's unpause")):
        goal = Goal(Rule.AT_MOST, BOUND_MS)
        measures.append(compare(taken, call, f"POST …/{call}", "ms", "engine", peer_name, goal))
    return Outcome("stop-start", "Stop and start", tuple(measures), 2)
