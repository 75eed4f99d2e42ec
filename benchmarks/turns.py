"""Rows: the first message of an agent, and the time that the server adds to a message."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import containers
from benchmarks.comparison import compare, compare_ways
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.routes import Caller, Route
from benchmarks.samples import LATER_MESSAGES, alternately, column, first_and_later, mean, middle
from benchmarks.stock_openclaw import start, stock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker.models.containers import Container

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample, Samples
    from benchmarks.servers import Server
    from benchmarks.stock_openclaw import Stock

FIRST_ROUNDS = 5
MESSAGE_ROUNDS = 100
SESSION = "bench"

AGENT_ROUNDS = 3
FIRST_TURNS, LATER_TURNS = 10, 40
"""Turns of an agent that are its first, and those after them."""
TRAILING_S = 0.4
"""An agent writes after its answer."""
SILENCE_TURNS, SILENCE_S = 6, 15.0
"""Turns, and a silence after them in which an agent collects its garbage."""


def first_message(bench: Bench) -> Outcome:
    """The first message of a new agent, compared with later ones: warm, cold, and stock."""
    rounds = bench.rounds_or(FIRST_ROUNDS)
    with bench.server(WARM_POOL_SIZE="1") as pooled, bench.server() as plain, stock(bench) as peer:

        def warm() -> Sample:
            # The next warm sandbox must be ready before these messages are timed.
            pooled.wait_for_pool(1)
            instance, _ = pooled.create()
            pooled.wait_for_pool(1)
            return _talked(pooled, instance)

        subjects: dict[str, Callable[[], Sample]] = {
            "warm": warm,
            "cold": lambda: _talked(plain, plain.create()[0]),
            "stock": lambda: _stock_talked(peer),
        }
        taken = alternately(subjects, rounds, 0, bench.progress)
    measures = []
    for subject, what, goal in (
        ("warm", "first message after a warm create", Goal(Rule.RATIO_AT_MOST, 2)),
        ("cold", "first message after a cold create", None),
        ("stock", "first message to stock OpenClaw", None),
    ):
        first, later = column(taken[subject], "first"), column(taken[subject], "later")
        measures.append(
            Measure(
                what,
                "ms",
                middle(first),
                middle(later),
                f"median of its next {LATER_MESSAGES}",
                goal,
                rounds=rounds,
                samples={"first": first, "later": later},
            )
        )
    return Outcome("first-message", "First message", tuple(measures))


def message(bench: Bench) -> Outcome:
    """A message through the server and straight to the same gateway, in the same session."""
    rounds = bench.rounds_or(MESSAGE_ROUNDS)
    with bench.agent() as (server, instance):
        gateway = server.call("GET", f"/local/instances/{instance['id']}/gateway")
        with (
            Caller(Route.through_us(server, instance, SESSION)) as ours,
            Caller(Route.straight(gateway, SESSION)) as straight,
        ):
            subjects = {
                "ours": lambda: _sent(ours, server),
                "straight": lambda: _sent(straight, server),
            }
            taken = alternately(subjects, rounds, 5, bench.progress)
    mine, theirs = taken["ours"], taken["straight"]
    measures = []
    for metric, what in (("whole", "whole answer"), ("first output", "first output of a stream")):
        measures += compare_ways(taken, metric, what, 3, 10 if metric == "whole" else None)
    measures.append(
        Measure(
            "our server's processor time, a whole and a streamed answer",
            "CPU-ms",
            mean(column(mine, "server cpu")),
            mean(column(theirs, "server cpu")),
            "as the relay only",
            statistic="mean",
            rounds=rounds,
        )
    )
    note = (
        "An agent's own time for a turn varies by more than what a proxy adds to it; so the "
        "difference of a message's medians is the median of the differences in each round. What "
        "the way through us adds by itself shows in the next row."
    )
    return Outcome("message", "A message through us", tuple(measures), 5, (note,))


def processor_time(bench: Bench) -> Outcome:
    """An agent's processor time for a turn and for the silence after some, beside stock's."""
    rounds = bench.rounds_or(AGENT_ROUNDS)
    samples: Samples = {"ours": [], "stock": []}
    with bench.server() as server, stock(bench) as peer:
        for number in range(rounds):
            bench.progress(f"round {number + 1} of {rounds}: booting agents")
            instance, _ = server.create()
            server.say(instance, "Hello.")
            agent = start(peer)
            agent.say("Hello.")
            gateway = server.call("GET", f"/local/instances/{instance['id']}/gateway")
            ways = {
                "ours": (Route.straight(gateway, SESSION), bench.sandbox(instance)),
                "stock": (agent.route(SESSION), agent.container),
            }
            with ExitStack() as stack:
                callers = {
                    name: (stack.enter_context(Caller(route)), container)
                    for name, (route, container) in ways.items()
                }
                for name, sample in _in_turns(callers).items():
                    samples[name].append(sample)
            server.delete(instance)
            agent.container.remove(force=True, v=True)
    goal = Goal(Rule.RATIO_AT_MOST, 0.8)
    measures = [
        compare(samples, metric, what, unit, "stock", "stock OpenClaw", goal)
        for metric, what, unit in (
            ("first", f"mean of an agent's first {FIRST_TURNS} turns", "CPU-ms"),
            ("later", f"mean of its next {LATER_TURNS}", "CPU-ms"),
            ("silence", f"{SILENCE_TURNS} turns and {SILENCE_S:g} s of silence", "CPU-ms"),
        )
    ]
    note = "One session each, after a message in another one; the model answers at once."
    return Outcome("processor-time", "Processor time of a turn", tuple(measures), 0, (note,))


def _in_turns(callers: Mapping[str, tuple[Caller, Container]]) -> dict[str, Sample]:
    def turn(name: str) -> Sample:
        caller, container = callers[name]
        before_s = containers.cpu_s(container)
        caller.whole_ms()
        time.sleep(TRAILING_S)
        return {"used": (containers.cpu_s(container) - before_s) * 1000}

    subjects = {name: partial(turn, name) for name in callers}
    used = alternately(subjects, FIRST_TURNS + LATER_TURNS, 0)
    found = {}
    for name, (caller, container) in callers.items():
        turns = column(used[name], "used")
        before_s = containers.cpu_s(container)
        for _ in range(SILENCE_TURNS):
            caller.whole_ms()
        time.sleep(SILENCE_S)
        found[name] = {
            "first": mean(turns[:FIRST_TURNS]),
            "later": mean(turns[FIRST_TURNS:]),
            "silence": (containers.cpu_s(container) - before_s) * 1000,
        } | {f"turn {n:02}": value for n, value in enumerate(turns, 1)}
    return found


def _sent(caller: Caller, server: Server) -> Sample:
    before_s = server.used_s()
    sample = {"whole": caller.whole_ms(), "first output": caller.streamed_ms()[0]}
    return sample | {"server cpu": (server.used_s() - before_s) * 1000}


def _talked(server: Server, instance: Mapping[str, Any]) -> Sample:
    sample = first_and_later(lambda text: server.say(instance, text))
    server.delete(instance)
    return sample


def _stock_talked(stock: Stock) -> Sample:
    agent = start(stock)
    sample = first_and_later(agent.say)
    agent.container.remove(force=True, v=True)
    return sample
