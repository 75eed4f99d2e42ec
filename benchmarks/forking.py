"""Row: a fork of an agent with files, compared with a warm create and a plain copy of its home."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from benchmarks.containers import MB
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately, column, middle
from benchmarks.waiting import NotMeasured, ms_since

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker.models.containers import Container

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample, Samples
    from benchmarks.servers import Server

ROUNDS = 10
BOUND = 1.5
"""The meaning of “about the time of both”."""
TURNS = 5
FILES = 8
FILE_BYTES = 2_000_000
HOME = "/data"
COPY = f"{HOME}/copy"


def fork(bench: Bench) -> Outcome:
    """A fork of a running agent with a transcript, with a ready warm sandbox."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.agent(WARM_POOL_SIZE="1") as (server, origin):
        bench.progress("giving an agent a past")
        _live(server, origin)
        source = bench.sandbox(origin)

        def ours() -> Sample:
            # Nothing is measured while the next warm sandbox boots.
            server.wait_for_pool(1)
            instance, took_ms = server.fork(origin)
            _look(server, instance)
            server.delete(instance)
            return {"ms": took_ms}

        def peer() -> Sample:
            server.wait_for_pool(1)
            instance, create_ms = server.create()
            # The boot of the next sandbox must not disturb the copy.
            server.wait_for_pool(1)
            copy_ms, size_mb = _copied(source, bench.sandbox(instance))
            server.delete(instance)
            return {"create": create_ms, "copy": copy_ms, "mb": size_mb}

        warm_up = bench.warm_up_or_none(1)
        taken = alternately({"fork": ours, "both": peer}, rounds, warm_up, bench.progress)
    return outcome(taken, rounds, warm_up)


def outcome(taken: Samples, rounds: int, warm_up: int) -> Outcome:
    """The measures of the samples; the peer's figure is the sum of two medians."""
    forked = column(taken["fork"], "ms")
    created, copied = column(taken["both"], "create"), column(taken["both"], "copy")
    measure = Measure(
        "POST …/fork → running",
        "ms",
        middle(forked),
        middle(created) + middle(copied),
        "a warm create and the copy",
        Goal(Rule.RATIO_AT_MOST, BOUND),
        rounds=rounds,
        samples={"fork": forked, "create": created, "copy": copied},
    )
    note = (
        f"The agent that is forked runs, has {TURNS} turns and {FILES} files of "
        f"{FILE_BYTES / MB:g} MB. The copy is its home as the engine's archive, "
        f"{middle(column(taken['both'], 'mb')):.1f} MB, read from its sandbox and put in the new "
        f"agent's. Create alone: {middle(created):.1f} ms; copy alone: {middle(copied):.1f} ms."
    )
    return Outcome("fork", "Fork", (measure,), warm_up, (note,))


def _live(server: Server, instance: Mapping[str, Any]) -> None:
    # After the first message of every agent of these rows.
    for number in range(1, TURNS):
        server.say(instance, f"Remember the number {number}.")
    path = f"/v1/instances/{instance['id']}/files/content"
    for number in range(FILES):
        # Incompressible content.
        text = secrets.token_hex(FILE_BYTES // 2)
        server.call("PUT", path, {"path": _name(number), "content": text})


def _look(server: Server, instance: Mapping[str, Any]) -> None:
    """Raises NotMeasured if the fork lacks files of the original."""
    transcript = server.call("GET", f"/local/instances/{instance['id']}/transcript")
    messages = [turn for turn in transcript["turns"] if turn["role"] == "user"]
    listed = server.call("GET", f"/v1/instances/{instance['id']}/files?path=workspace")
    if len(messages) != TURNS or not {_name(number) for number in range(FILES)} <= _paths(listed):
        raise NotMeasured(f"the fork has {len(messages)} of {TURNS} turns, and {listed}")


def _paths(listed: Mapping[str, Any]) -> set[str]:
    return {str(each["path"]) for each in listed["entries"]}


def _name(number: int) -> str:
    return f"workspace/page-{number}.txt"


def _copied(source: Container, target: Container) -> tuple[float, float]:
    """Milliseconds to copy the home of one container into another, and its size in MB."""
    target.exec_run(["mkdir", COPY])
    began_s = time.perf_counter()
    stream, _ = source.get_archive(HOME)
    archive = b"".join(stream)
    if not target.put_archive(COPY, archive):
        raise NotMeasured("the engine put no copy in")
    return ms_since(began_s), len(archive) / MB
