"""Agents of an OpenClaw release, compared with agents of the server's own on the same server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import containers
from benchmarks.comparison import compare
from benchmarks.samples import alternately, first_and_later

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.results import Measure
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

ROUNDS = 3
POLL_S = 0.1
METRICS = (
    ("cpu_s", "boot, processor", "CPU-s"),
    ("wall_s", "boot, wall", "s"),
    ("first", "first message", "ms"),
    ("later", "later message", "ms"),
    ("memory_mb", "memory after these messages", "MB"),
)


def compare_releases(bench: Bench, version: str, default: str) -> list[Measure]:
    """Boot, messages and memory. Raises NotMeasured if an agent does not boot or answer."""
    with bench.server() as server:
        subjects = {
            version: lambda: _measured(bench, server, version),
            default: lambda: _measured(bench, server, default),
        }
        # The first boot of an image reads it from the disk.
        taken = alternately(subjects, bench.rounds_or(ROUNDS), 1, bench.progress)
    return [
        compare(taken, name, what, unit, default, default, ours=version)
        for name, what, unit in METRICS
    ]


def _measured(bench: Bench, server: Server, version: str) -> Sample:
    before_s = server.used_s()
    instance, took_ms = server.create(POLL_S, openclaw_version=version)
    sandbox = bench.sandbox(instance)
    sample = {"wall_s": took_ms / 1000, "cpu_s": containers.cpu_s(sandbox)}
    sample["cpu_s"] += server.used_s() - before_s
    sample |= first_and_later(lambda text: server.say(instance, text))
    sample["memory_mb"] = containers.memory_mb(sandbox)
    server.delete(instance)
    return sample
