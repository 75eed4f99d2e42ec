"""Rows: the time until a new agent runs, with and without a warm sandbox."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks import containers
from benchmarks.comparison import compare
from benchmarks.fleet import fleet
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately
from benchmarks.stock_openclaw import start, stock
from benchmarks.waiting import NotMeasured, ms_since, took_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample, Samples
    from benchmarks.servers import Server
    from benchmarks.stock_openclaw import Stock

WARM_ROUNDS = 10
COLD_ROUNDS = 5
ANSWER_ROUNDS = 5
COLD_POLL_S = 0.1
"""More frequent polling would be a large part of the server's work meanwhile."""


def warm(bench: Bench) -> Outcome:
    """A create with a ready warm sandbox, compared with the engine's unpause of a similar agent."""
    rounds = bench.rounds_or(WARM_ROUNDS)
    with bench.agent(WARM_POOL_SIZE="1") as (server, agent):
        frozen = bench.sandbox(agent)

        def ours() -> Sample:
            # Nothing is measured while the next warm sandbox boots.
            server.wait_for_pool(1)
            instance, took_ms = server.create()
            server.delete(instance)
            return {"ms": took_ms}

        def peer() -> Sample:
            server.wait_for_pool(1)
            frozen.pause()
            return {"ms": took_ms(frozen.unpause)}

        warm_up = bench.warm_up_or_none(1)
        taken = alternately({"ours": ours, "unpause": peer}, rounds, warm_up, bench.progress)
    goal = Goal(Rule.AT_MOST, 250)
    what = "POST /v1/instances → running"
    measure = compare(taken, "ms", what, "ms", "unpause", "the engine's unpause", goal)
    note = "Warm creates are measured while no warm sandbox is being made."
    return Outcome("create-warm", "Create, warm", (measure,), warm_up, (note,))


def cold(bench: Bench) -> Outcome:
    """A cold create, compared with stock OpenClaw by `docker run` and by `openclaw fleet`."""
    rounds = bench.rounds_or(COLD_ROUNDS)
    notes = [
        "Stock OpenClaw: npm's package on the same base image, with the smallest configuration "
        "that serves `/v1/responses`, 2 GiB as our sandboxes have, and no other option. "
        "CPU-s are the container's, of ours with those of the server, which is asked ten times a "
        "second whether the agent runs.",
    ]
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        plain = stack.enter_context(stock(bench))
        subjects: dict[str, Callable[[], Sample]] = {
            "ours": lambda: _ours(bench, server),
            "docker run": lambda: _plain(plain),
        }
        try:
            tenants = stack.enter_context(fleet(plain))
            bench.progress("trying openclaw fleet")
            tenants.create()
        except NotMeasured as reason:
            notes.append(f"`openclaw fleet` was not measured: {reason}.")
        else:
            subjects["fleet"] = tenants.create
            notes.append(
                "`openclaw fleet create`: the command in a container with the engine's socket, on "
                "the image of stock OpenClaw; CPU-s are the command's and the tenant's together."
            )
        taken = alternately(subjects, rounds, 1, bench.progress)
    goal = Goal(Rule.RATIO_AT_MOST, 0.75)
    measures = _compare_boots(taken, "docker run", "stock by docker run", goal)
    if "fleet" in taken:
        measures += _compare_boots(taken, "fleet", "openclaw fleet", None)
    return Outcome("create-cold", "Create, cold", tuple(measures), 1, tuple(notes))


def first_answer(bench: Bench) -> Outcome:
    """From a create to the end of the agent's first answer: warm, cold, and stock OpenClaw."""
    rounds = bench.rounds_or(ANSWER_ROUNDS)
    with (
        bench.server(WARM_POOL_SIZE="1") as pooled,
        bench.server() as plain,
        stock(bench) as peer,
    ):

        def answered_by(server: Server) -> Sample:
            # Nothing is measured while a warm sandbox boots, and each has one to begin with.
            pooled.wait_for_pool(1)
            began_s = time.perf_counter()
            instance, _ = server.create()
            server.say(instance, "Hello.")
            taken_ms = ms_since(began_s)
            server.delete(instance)
            return {"ms": taken_ms}

        def stock_answered() -> Sample:
            pooled.wait_for_pool(1)
            agent = start(peer)
            answer_ms = agent.say("Hello.")
            containers.remove(agent.container)
            return {"ms": agent.ready_ms + answer_ms}

        subjects: dict[str, Callable[[], Sample]] = {
            "warm": lambda: answered_by(pooled),
            "cold": lambda: answered_by(plain),
            "stock": stock_answered,
        }
        taken = alternately(subjects, rounds, bench.warm_up_or_none(1), bench.progress)
    measures = tuple(
        compare(
            taken,
            "ms",
            f"create → first answer, {subject}",
            "ms",
            "stock",
            "stock OpenClaw",
            ours=subject,
        )
        for subject in ("warm", "cold")
    )
    note = "The next warm sandbox is made while an agent of the warm row answers."
    return Outcome(
        "first-answer", "Create → first answer", measures, bench.warm_up_or_none(1), (note,)
    )


def _ours(bench: Bench, server: Server) -> Sample:
    before_s = server.used_s()
    instance, took_ms = server.create(COLD_POLL_S)
    used_s = containers.cpu_s(bench.sandbox(instance)) + server.used_s() - before_s
    server.delete(instance)
    return {"wall_s": took_ms / 1000, "cpu_s": used_s}


def _plain(stock: Stock) -> Sample:
    agent = start(stock)
    containers.remove(agent.container)
    return {"wall_s": agent.ready_ms / 1000, "cpu_s": agent.boot_cpu_s}


def _compare_boots(taken: Samples, peer: str, peer_name: str, goal: Goal | None) -> list[Measure]:
    return [
        compare(taken, metric, f"create → running, {what}", unit, peer, peer_name, goal)
        for metric, unit, what in (("cpu_s", "CPU-s", "processor"), ("wall_s", "s", "wall"))
    ]
