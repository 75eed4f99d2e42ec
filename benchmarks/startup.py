"""Row: the time from `up` to a healthy server, compared with importing its dependencies."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

from benchmarks.comparison import compare
from benchmarks.results import Goal, Outcome, Rule
from benchmarks.samples import alternately

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.samples import Sample

ROUNDS = 10
DEPENDENCIES = (
    "aiosqlite", "click", "cryptography.fernet", "docker", "filelock", "httptools", "httpx",
    "jsonschema_rs", "multipart", "platformdirs", "psutil", "pydantic", "sqlalchemy.ext.asyncio",
    "sqlmodel", "starlette.applications", "uvicorn", "uvloop",
)  # fmt: skip
"""A program that imports the server's dependencies."""


def up(bench: Bench) -> Outcome:
    """`up` on a used data directory and on a new one."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.server() as server:
        server.down()

        def again() -> Sample:
            sample = server.up()
            server.down()
            return sample

        def new() -> Sample:
            with bench.server(is_up=False) as fresh:
                return fresh.up()

        subjects: dict[str, Callable[[], Sample]] = {
            "up": again,
            "up, new data directory": new,
            "imports": _imports,
        }
        taken = alternately(subjects, rounds, 1, bench.progress)
    measures = []
    for subject, goal in (("up", Goal(Rule.AT_MOST, 1.5)), ("up, new data directory", None)):
        for metric, unit, what in (("wall_s", "s", "wall"), ("cpu_s", "CPU-s", "processor")):
            measures.append(
                compare(
                    taken,
                    metric,
                    f"{subject} → healthy, {what}",
                    unit,
                    "imports",
                    "importing the dependencies",
                    goal if metric == "wall_s" else None,
                    ours=subject,
                )
            )
    return Outcome("up", "`up` → healthy", tuple(measures), 1)


def _imports() -> Sample:
    began_s = time.perf_counter()
    before = psutil.Process().cpu_times()
    subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-c", f"import {', '.join(DEPENDENCIES)}"],
        check=True,
        start_new_session=True,
    )
    after = psutil.Process().cpu_times()
    used_s = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return {"wall_s": time.perf_counter() - began_s, "cpu_s": used_s}
