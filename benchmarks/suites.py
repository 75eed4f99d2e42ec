"""Row: a test suite with the pytest plugin, compared with its messages alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import middle
from benchmarks.servers import server_environment
from benchmarks.waiting import NotMeasured, ms_since

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.servers import Server

SUITE = Path(__file__).parent / "suite" / "test_support_desk.py"
POOL = 2
"""The setting's default."""
TIMEOUT_S = 480.0
MESSAGES = re.compile(
    r'^chowder_requests_total\{method="POST",route="[^"]*/responses",status="2xx"\} (\S+)', re.M
)
TESTS = re.compile(r"(\d+) passed")


def suite(bench: Bench) -> Outcome:
    """A suite on a server that has just started, and once its pool is full; as many messages."""
    rounds = bench.rounds_or(1)
    settings = {"WARM_POOL_SIZE": str(POOL), "WARM_POOL_MAX": "6"}
    taken: dict[str, list[float]] = {"started": [], "pool": [], "message": []}
    tests = messages = 0
    for _ in range(rounds):
        for name in ("started", "pool"):
            with bench.server(settings) as server:
                if name == "pool":
                    server.wait_for_pool(POOL)
                bench.progress(f"a suite: {name}")
                tests, took_ms = _run(bench, server)
                taken[name].append(took_ms)
                messages = _messages(server)
                server.wait_for_pool(1)
                bench.progress("messages to one agent")
                agent, _ = server.create()
                server.say(agent, "Hello.")
                server.wait_for_pool(POOL)
                taken["message"] += [server.say(agent, "Hello.") for _ in range(messages)]
    alone = messages * middle(taken["message"])
    goal = Goal(Rule.RATIO_AT_MOST, 2.0)
    peer = f"its {messages} messages to one agent"
    names = {"started": "on a server that has just started", "pool": f"on a pool of {POOL}"}
    measures = tuple(
        Measure(
            f"{tests} tests {what}", "ms", middle(taken[name]), alone, peer, goal, rounds=rounds,
            samples={name: taken[name], "message": taken["message"]},
        )
        for name, what in names.items()
    )  # fmt: skip
    return Outcome("suite", "A test suite", measures)


def _run(bench: Bench, server: Server) -> tuple[int, float]:
    """The number of tests that passed, and the milliseconds that pytest took, start and end too."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        shutil.copy(SUITE, folder)
        key = (server.data_dir / "default.key").read_text()
        named = {"CHOWDER_BASE_URL": f"{server.url}/v1", "CHOWDER_KEY": key, "HOME": folder}
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:randomly", "--chowder", "running"],
            cwd=folder, env=server_environment(bench.env, {}) | named, timeout=TIMEOUT_S,
            capture_output=True, text=True, start_new_session=True, check=False,
        )  # fmt: skip
        took_ms = ms_since(began_s)
    passed = TESTS.search(done.stdout)
    if done.returncode or passed is None:
        raise NotMeasured(f"the suite failed: {done.stdout[-2000:]}{done.stderr[-300:]}")
    return int(passed[1]), took_ms


def _messages(server: Server) -> int:
    """How many messages agents have answered."""
    figures = httpx.get(f"{server.url}/local/metrics", headers=server.headers, trust_env=False)
    return sum(int(float(each)) for each in MESSAGES.findall(figures.text))
