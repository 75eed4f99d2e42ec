"""Row: 64 concurrent streamed answers, through the server and straight from the same gateway."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from benchmarks.comparison import compare
from benchmarks.model_stand_in import long_answer_prompt
from benchmarks.results import Outcome
from benchmarks.routes import Route, streamed_together
from benchmarks.samples import alternately, middle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

STREAMS = 64
ROUNDS = 3
PIECES, PIECE_BYTES, INTERVAL_MS = 40, 60, 25


def streams(bench: Bench) -> Outcome:
    """All streams begin at once, each in its own session with an earlier message."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.stand_in_server() as server:
        bench.progress("booting an agent")
        instance, _ = server.create()
        server.say(instance, "Hello.")
        gateway = server.call("GET", f"/local/instances/{instance['id']}/gateway")
        names = [f"stream-{secrets.token_hex(4)}" for _ in range(STREAMS)]
        ours = [Route.through_us(server, instance, name) for name in names]
        straight = [Route.straight(gateway, name) for name in names]
        subjects: dict[str, Callable[[], Sample]] = {
            "ours": lambda: _measured(server, ours),
            "straight": lambda: _measured(server, straight),
        }
        # The warm-up round opens the sessions.
        taken = alternately(subjects, rounds, 1, bench.progress)
    measures = []
    for metric, what, unit in (
        ("all_s", f"{STREAMS} streams, until the last has ended", "s"),
        ("first_ms", "median first output among them", "ms"),
        ("server_cpu_s", "our server's processor time", "CPU-s"),
    ):
        peer_name = "as the relay only" if metric == "server_cpu_s" else "straight"
        measures.append(compare(taken, metric, what, unit, "straight", peer_name))
    note = f"Each of the {STREAMS} answers has {PIECES} pieces, one every {INTERVAL_MS} ms."
    return Outcome("streams", f"{STREAMS} streams at once", tuple(measures), 1, (note,))


def _measured(server: Server, routes: Sequence[Route]) -> Sample:
    before_s = server.used_s()
    prompt = long_answer_prompt(PIECES, PIECE_BYTES, INTERVAL_MS)
    first_ms, all_ms = streamed_together(routes, prompt)
    used_s = server.used_s() - before_s
    return {"all_s": all_ms / 1000, "first_ms": middle(first_ms), "server_cpu_s": used_s}
