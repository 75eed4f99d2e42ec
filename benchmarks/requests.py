"""Rows: the rate of light requests, and whether it depends on the size of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from benchmarks import load, rows
from benchmarks.comparison import compare
from benchmarks.load import Target
from benchmarks.results import Goal, Outcome, Rule
from benchmarks.samples import alternately, middle
from benchmarks.waiting import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

ROUNDS = 7
WINDOW_S = 2.0
CONNECTIONS = 16
IDLE_ROUNDS, IDLE_S = 3, 30.0
FEW, MANY, SESSIONS, ENDED, KEYS = 10, 10_000, 100_000, 10_000, 1_000


def status(bench: Bench) -> Outcome:
    """`GET …/status`, compared with an empty Starlette route with the same settings."""
    rounds = bench.rounds_or(ROUNDS)
    with (
        bench.server(is_up=False) as server,
        bench.python("benchmarks.empty_app") as empty_port,
    ):
        rows.fill(server.data_dir, FEW, FEW)
        server.up()
        ours, empty = _status_of(server), Target(empty_port, "/")
        subjects: dict[str, Callable[[], Sample]] = {
            "ours": lambda: {"per s": load.run(ours, CONNECTIONS, WINDOW_S).per_s},
            "empty route": lambda: {"per s": load.run(empty, CONNECTIONS, WINDOW_S).per_s},
        }
        taken = alternately(subjects, rounds, 1, bench.progress)
    measure = compare(
        taken,
        "per s",
        f"GET …/status, {CONNECTIONS} connections",
        "requests/s",
        "empty route",
        "an empty Starlette route, same uvicorn settings",
        Goal(Rule.RATIO_AT_LEAST, 0.5),
    )
    note = f"A round of requests/s lasts {WINDOW_S:g} s; the generator is another process."
    return Outcome("status", "GET …/status", (measure,), 1, (note,))


def scale(bench: Bench) -> Outcome:
    """List and status of an organization with ten agents, alone and among ten thousand."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.server(is_up=False) as small, bench.server(is_up=False) as large:
        bench.progress("filling two stores")
        rows.fill(small.data_dir, FEW, FEW, own=FEW)
        rows.fill(large.data_dir, MANY, SESSIONS, own=FEW, terminated=ENDED, keys=KEYS)
        small.up()
        large.up()
        subjects: dict[str, Callable[[], Sample]] = {
            "many": lambda: _time_calls(large),
            "few": lambda: _time_calls(small),
        }
        taken = alternately(subjects, rounds, 1, bench.progress)
    measures = []
    for metric, what in (
        ("list", f"GET /v1/instances, {FEW} listed"),
        ("status", "GET …/status"),
    ):
        goal = Goal(Rule.RATIO_AT_MOST, 1.5)
        measures.append(compare(taken, metric, what, "ms", "few", f"{FEW} rows", goal, ours="many"))
    note = (
        f"The large store has {MANY:,} living agents ({FEW} of them the asking organization's), "
        f"{ENDED:,} terminated ones of the same organization, {SESSIONS:,} sessions, {KEYS:,} keys."
    )
    return Outcome("scale", f"With {MANY:,} rows", tuple(measures), 1, (note,))


def server_idle(bench: Bench) -> Outcome:
    """What a server with ten thousand stopped agents does when nothing happens; one with ten."""
    rounds = bench.rounds_or(IDLE_ROUNDS)
    with bench.server(is_up=False) as small, bench.server(is_up=False) as large:
        bench.progress("filling two stores")
        rows.fill(small.data_dir, FEW, FEW, own=FEW)
        rows.fill(large.data_dir, MANY, MANY, own=MANY)
        small.up()
        large.up()
        subjects: dict[str, Callable[[], Sample]] = {
            "many": lambda: _idle(large),
            "few": lambda: _idle(small),
        }
        taken = alternately(subjects, rounds, 1, bench.progress)
    measures = tuple(
        compare(taken, metric, f"{what} in a minute", unit, "few", f"{FEW} agents", ours="many")
        for metric, what, unit in (
            ("cpu_s", "the server's processor time", "CPU-s"),
            ("kb", "written to disk", "kB"),
        )
    )
    note = f"All agents are stopped and have left memory. A round lasts {IDLE_S:g} s."
    return Outcome("server-idle", f"An idle server, {MANY:,} agents", measures, 1, (note,))


def _idle(server: Server) -> Sample:
    before_s, before_bytes = server.used_s(), _written_bytes(server)
    # These seconds are what the row is about; no event ends them.
    time.sleep(IDLE_S)
    minutes = IDLE_S / 60
    return {
        "cpu_s": (server.used_s() - before_s) / minutes,
        "kb": (_written_bytes(server) - before_bytes) / 1000 / minutes,
    }


def _written_bytes(server: Server) -> int:
    if not psutil.LINUX:
        raise NotMeasured("only Linux tells what a process has written")
    return int(server.process.io_counters().write_bytes)


def _status_of(server: Server) -> Target:
    return Target(server.port, f"/v1/instances/{rows.instance_id(0)}/status", server.headers)


def _time_calls(server: Server) -> Sample:
    listed = load.run(Target(server.port, "/v1/instances", server.headers), 1, WINDOW_S / 2)
    looked = load.run(_status_of(server), 1, WINDOW_S / 2)
    return {
        "list": middle(listed.durations_s) * 1000,
        "status": middle(looked.durations_s) * 1000,
    }
