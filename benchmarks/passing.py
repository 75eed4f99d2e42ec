"""Row: the time that the server adds to an immediate answer, alone and with 64 at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.comparison import compare, compare_ways
from benchmarks.images import build, has_image
from benchmarks.results import Measure, Outcome
from benchmarks.routes import Caller, Route, streamed_together
from benchmarks.samples import alternately, column, mean, middle
from benchmarks.waiting import NotMeasured
from chowder_local.core.settings import Settings
from chowder_local.engine.image_recipe import expected_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample, Samples
    from benchmarks.servers import Server

ROUNDS, WARM_UP = 500, 20
STREAMS, STREAM_ROUNDS, STREAM_WARM_UP = 64, 20, 2
TAG = "chowder-local/benchmark-prompt:1"
NOTE = (
    "The gateway is a stand-in that spends no time on a message: an agent's own time varies by "
    "hundreds of milliseconds, in which a slowest message of ours could not be seen. Its streamed "
    "answer has 30 pieces."
)


def passing(bench: Bench) -> Outcome:
    """A message through the server and straight to the same gateway, which answers at once."""
    rounds = bench.rounds_or(ROUNDS)
    sandbox = expected_tag(Settings.read(bench.env))
    if not has_image(bench, sandbox):
        raise NotMeasured("the sandbox image is not there; run: chowder-local image build")
    build(bench, "prompt", TAG, {"BASE_IMAGE": sandbox})
    with bench.server(IMAGE=TAG) as server:
        instance, _ = server.create()
        gateway = server.call("GET", f"/local/instances/{instance['id']}/gateway")
        names = [f"stream-{number}" for number in range(STREAMS)]
        ours = [Route.through_us(server, instance, name) for name in names]
        straight = [Route.straight(gateway, name) for name in names]
        with Caller(ours[0]) as our_caller, Caller(straight[0]) as straight_caller:
            subjects: dict[str, Callable[[], Sample]] = {
                "ours": lambda: _alone(our_caller, server),
                "straight": lambda: _alone(straight_caller, server),
            }
            alone = alternately(subjects, rounds, WARM_UP, bench.progress)
        subjects = {
            "ours": lambda: _together(ours, server),
            "straight": lambda: _together(straight, server),
        }
        together = alternately(subjects, min(rounds, STREAM_ROUNDS), STREAM_WARM_UP, bench.progress)
    measures = (*_of_one(alone), *_of_all(together))
    return Outcome("passing", "An answer at once, through us", measures, WARM_UP, (NOTE,))


def _alone(caller: Caller, server: Server) -> Sample:
    before_s = server.used_s()
    whole_ms = caller.whole_ms()
    first_ms, last_ms = caller.streamed_ms()
    used_ms = (server.used_s() - before_s) * 1000
    return {"whole": whole_ms, "first": first_ms, "last": last_ms, "cpu": used_ms}


def _together(routes: Sequence[Route], server: Server) -> Sample:
    before_s = server.used_s()
    first_ms, all_ms = streamed_together(routes, "Hello.")
    return {"first": middle(first_ms), "all": all_ms, "cpu": (server.used_s() - before_s) * 1000}


def _of_one(taken: Samples) -> list[Measure]:
    measures: list[Measure] = []
    for metric, what, goal, goal_of_p99 in (
        ("whole", "whole answer", 3, 10),
        ("first", "first output of a stream", 3, None),
        ("last", "last SSE byte", None, None),
    ):
        measures += compare_ways(taken, metric, what, goal, goal_of_p99)
    used_ms = mean(column(taken["ours"], "cpu"))
    what = "our server's processor time, a whole and a streamed answer"
    return [
        *measures,
        Measure(what, "CPU-ms", used_ms, statistic="mean", rounds=len(taken["ours"])),
    ]


def _of_all(taken: Samples) -> list[Measure]:
    first, last = (
        f"median first output among {STREAMS} at once",
        f"{STREAMS} at once, until the last has ended",
    )
    return [
        compare(taken, "first", first, "ms", "straight", "straight"),
        compare(taken, "all", last, "ms", "straight", "straight"),
    ]
