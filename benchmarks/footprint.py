"""Rows: the memory of an agent, and of the server while it streams."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import containers
from benchmarks.comparison import compare
from benchmarks.model_stand_in import long_answer_prompt
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately, column, middle
from benchmarks.servers import CALL_TIMEOUT_S, MODEL
from benchmarks.stock_openclaw import start, stock
from benchmarks.waiting import NotMeasured, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker.models.containers import Container

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server
    from benchmarks.stock_openclaw import Stock

GIB = 1024**3
MEMORY_ROUNDS = 3
READINGS = 10
READING_INTERVAL_S = 0.5
RELEASE_TIMEOUT_S = 60.0

DENSITY_ROUNDS, DENSITY_AGENTS = 1, 5
IDLE_S = 60.0
"""An agent collects its garbage 11 s after an answer."""

ANSWER_ROUNDS = 3
PIECE_BYTES = 1000
SHORT_PIECES, LONG_PIECES = 100, 1500
RSS_INTERVAL_S = 0.01


def agent_memory(bench: Bench) -> Outcome:
    """Memory of an agent after its first turn, compared with stock; and after its release."""
    rounds = bench.rounds_or(MEMORY_ROUNDS)
    with (
        bench.server(RELEASE_STOPPED_AFTER_S="1") as server,
        stock(bench) as peer,
    ):
        subjects: dict[str, Callable[[], Sample]] = {
            "ours": lambda: _ours(bench, server),
            "stock": lambda: _stock(peer),
        }
        taken = alternately(subjects, rounds, 0, bench.progress)
    measures = []
    for metric, what, goal in (
        ("after", "after the first turn", Goal(Rule.RATIO_AT_MOST, 0.75)),
        ("ready", "when it is ready", None),
    ):
        measures.append(compare(taken, metric, what, "MB", "stock", "stock OpenClaw", goal))
    released = column(taken["ours"], "released")
    measures.append(
        Measure(
            "stopped and released",
            "MB",
            middle(released),
            goal=Goal(Rule.AT_MOST, 0),
            rounds=rounds,
            samples={"ours": released},
        )
    )
    note = (
        "Memory is what `docker stats` shows (without inactive page cache), the median of "
        f"{READINGS} readings in {READINGS * READING_INTERVAL_S:g} s; agents were created cold."
    )
    return Outcome("memory", "Memory of an agent", tuple(measures), 0, (note,))


def idle_density(bench: Bench) -> Outcome:
    """How many running agents, idle since a first turn, fit into a GiB; the same of stock."""
    rounds = bench.rounds_or(DENSITY_ROUNDS)
    with bench.server() as server, stock(bench) as peer:

        def ours() -> Sample:
            agents = [server.create()[0] for _ in range(DENSITY_AGENTS)]
            for agent in agents:
                server.say(agent, "Hello.")
            taken = _idle_in_gib([bench.sandbox(agent) for agent in agents])
            for agent in agents:
                server.delete(agent)
            return taken

        def theirs() -> Sample:
            agents = [start(peer) for _ in range(DENSITY_AGENTS)]
            for agent in agents:
                agent.say("Hello.")
            taken = _idle_in_gib([agent.container for agent in agents])
            for agent in agents:
                containers.remove(agent.container)
            return taken

        taken = alternately({"ours": ours, "stock": theirs}, rounds, 0, bench.progress)
    what = "running agents in a GiB, idle since their first turn"
    measure = compare(taken, "per GiB", what, "agents", "stock", "stock OpenClaw")
    note = (
        f"{DENSITY_AGENTS} agents at once, {IDLE_S:g} s after their first turns. An agent that "
        "hibernates, by default after two hours, takes no memory of its own."
    )
    return Outcome("idle-density", "Idle agents in a GiB", (measure,), 0, (note,))


def _idle_in_gib(agents: Sequence[Container]) -> Sample:
    # This minute is what the row is about; no event ends it.
    time.sleep(IDLE_S)
    taken_mb = sum(_usual_mb(each) for each in agents)
    return {"per GiB": len(agents) * GIB / (taken_mb * containers.MB)}


def server_memory(bench: Bench) -> Outcome:
    """The server's memory during a long answer, compared with a short one."""
    rounds = bench.rounds_or(ANSWER_ROUNDS)
    with bench.stand_in_server() as server:
        bench.progress("booting an agent")
        instance, _ = server.create()
        server.say(instance, "Hello.")
        subjects: dict[str, Callable[[], Sample]] = {
            "long": lambda: _streamed(server, instance, LONG_PIECES),
            "short": lambda: _streamed(server, instance, SHORT_PIECES),
        }
        taken = alternately(subjects, rounds, 1, bench.progress)
    long_mb, short_mb = (
        pieces * PIECE_BYTES / containers.MB for pieces in (LONG_PIECES, SHORT_PIECES)
    )
    measure = compare(
        taken,
        "peak",
        f"peak RSS of the server, answer of {long_mb:g} MB",
        "MB",
        "short",
        f"answer of {short_mb:g} MB",
        Goal(Rule.RATIO_AT_MOST, 1.1),
        ours="long",
    )
    note = "The server's peak RSS is read every 10 ms; it does the relay's part of the answer, too."
    return Outcome("server-memory", "Memory of the server", (measure,), 1, (note,))


def _ours(bench: Bench, server: Server) -> Sample:
    instance, _ = server.create()
    sandbox = bench.sandbox(instance)
    sample = _readings(sandbox, lambda: server.say(instance, "Hello."))
    server.call("POST", f"/v1/instances/{instance['id']}/stop")

    def is_released() -> bool:
        sandbox.reload()
        return bool(sandbox.status == "exited")

    until(is_released, "a stopped agent is released", RELEASE_TIMEOUT_S)
    sample["released"] = containers.memory_mb(sandbox)
    server.delete(instance)
    return sample


def _stock(stock: Stock) -> Sample:
    agent = start(stock)
    sample = _readings(agent.container, lambda: agent.say("Hello."))
    containers.remove(agent.container)
    return sample


def _readings(container: Container, turn: Callable[[], object]) -> Sample:
    ready_mb = _usual_mb(container)
    turn()
    return {"ready": ready_mb, "after": _usual_mb(container)}


def _usual_mb(container: Container) -> float:
    """Readings over some seconds, because memory use fluctuates."""
    readings = []
    for _ in range(READINGS):
        readings.append(containers.memory_mb(container))
        time.sleep(READING_INTERVAL_S)
    return middle(readings)


def _streamed(server: Server, instance: Mapping[str, Any], pieces: int) -> Sample:
    body = {"model": MODEL, "input": long_answer_prompt(pieces, PIECE_BYTES, 0), "stream": True}
    # A new session each time, or the history would grow with every answer.
    session = f"answer-{time.monotonic_ns()}"
    url = f"{server.url}/v1/instances/{instance['id']}/session/{session}/responses"
    length, tail = 0, b""
    with (
        _peak_of(server) as peak,
        httpx.stream(
            "POST", url, json=body, headers=server.headers, timeout=CALL_TIMEOUT_S, trust_env=False
        ) as answer,
    ):
        for chunk in answer.iter_raw():
            length += len(chunk)
            tail = (tail + chunk)[-1000:]
    if length < pieces * PIECE_BYTES or b"[DONE]" not in tail:
        raise NotMeasured(f"a long answer broke off: {tail.decode(errors='replace')}")
    return {"peak": peak()}


@contextmanager
def _peak_of(server: Server) -> Iterator[Callable[[], float]]:
    process = server.process
    readings = [process.memory_info().rss]
    is_over = threading.Event()

    def read() -> None:
        while not is_over.wait(RSS_INTERVAL_S):
            readings.append(process.memory_info().rss)

    reader = threading.Thread(target=read, name="rss")
    reader.start()
    try:
        yield lambda: max(readings) / containers.MB
    finally:
        is_over.set()
        reader.join()
