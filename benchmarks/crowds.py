"""Rows: several agents at once, and more than there is memory for."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmarks import containers
from benchmarks.comparison import compare
from benchmarks.results import Goal, Measure, Outcome, Rule
from benchmarks.samples import alternately, middle
from benchmarks.waiting import NotMeasured, ms_since

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.samples import Sample
    from benchmarks.servers import Server

ROUNDS = 3
AT_ONCE = 10
WARM_COUNT = 4
BOOTS_AT_ONCE = 2
COUNT = 100
WAKE_INTERVAL_S = 20.0
MEMORY_INTERVAL = 20
"""A look at the memory of all sandboxes takes longer than a wake."""
MEMORY_BOUND_MB = 12_000
WAKE_BOUND_MS, P95_BOUND_MS = 300, 500


def burst(bench: Bench) -> Outcome:
    """Creates at once, some of them with a warm sandbox; as many boots, two at a time."""
    with bench.server(WARM_POOL_SIZE=str(WARM_COUNT)) as pooled, bench.server() as plain:
        pooled.wait_for_pool(WARM_COUNT)

        def ours() -> Sample:
            pooled.wait_for_pool(WARM_COUNT)
            return {"ms": _create_at_once(pooled, AT_ONCE)}

        def boots() -> Sample:
            pooled.wait_for_pool(WARM_COUNT)
            return {"ms": _create_at_once(plain, AT_ONCE - WARM_COUNT)}

        taken = alternately({"ours": ours, "boots": boots}, 1, 0, bench.progress)
    what = f"{AT_ONCE} creates at once on {WARM_COUNT} warm sandboxes"
    peer_name = f"{AT_ONCE - WARM_COUNT} boots, {BOOTS_AT_ONCE} at a time"
    goal = Goal(Rule.RATIO_AT_MOST, 1.2)
    measure = compare(taken, "ms", what, "ms", "boots", peer_name, goal)
    return Outcome("burst", "A burst of creates", (measure,))


def _create_at_once(server: Server, count: int) -> float:
    """The milliseconds until all run; removes them."""
    began_s = time.perf_counter()
    with ThreadPoolExecutor(count) as threads:
        made = list(threads.map(lambda _: server.create(poll_s=0.05)[0], range(count)))
    took_ms = ms_since(began_s)
    for instance in made:
        server.delete(instance)
    return took_ms


def refill(bench: Bench) -> Outcome:
    """Messages while a warm sandbox is made, compared with messages while none is."""
    rounds = bench.rounds_or(ROUNDS)
    with bench.agent(WARM_POOL_SIZE="1") as (server, agent):
        server.wait_for_pool(1)
        for _ in range(3):
            server.say(agent, "Hello.")

        def quiet() -> Sample:
            return {"ms": middle([server.say(agent, "Hello.") for _ in range(5)])}

        def refilling() -> Sample:
            claimed, _ = server.create()
            taken = []
            while not server.call("GET", "/local/health")["pool"]["ready"]:
                taken.append(server.say(agent, "Hello."))
            server.delete(claimed)
            return {"ms": middle(taken)}

        taken = alternately({"ours": refilling, "quiet": quiet}, rounds, 0, bench.progress)
    what, goal = "a message while a warm sandbox is made", Goal(Rule.RATIO_AT_MOST, 1.3)
    measure = compare(taken, "ms", what, "ms", "quiet", "while none is", goal)
    return Outcome("refill", "A message during a refill", (measure,))


def many(bench: Bench) -> Outcome:
    """Running agents with a history, more than fit, each used again in random order."""
    count = bench.rounds_or(COUNT)
    with bench.server(WARM_POOL_SIZE="2", WARM_POOL_MAX="6", HIBERNATE_AFTER_S="3") as server:
        agents = []
        for number in range(count):
            bench.progress(f"creating agent {number + 1} of {count}")
            server.wait_for_pool(1)
            agent, _ = server.create()
            server.say(agent, f"My number is {number}.")
            agents.append(agent)
        wakes_ms, memory_mb = [], []
        order = random.sample([*enumerate(agents)], count)
        for turn, (number, agent) in enumerate(order, 1):
            bench.progress(f"waking an agent, {turn} of {len(order)}")
            ends_s = time.monotonic() + WAKE_INTERVAL_S
            server.wait_for_pool(1)
            wakes_ms += _wake(server, f"/instances/{agent['id']}")
            text = f"My number is {number}."
            if f'Before that: "{text}"' not in server.answer(agent, text):
                raise NotMeasured(f"agent {number} does not know what was said to it")
            if turn % MEMORY_INTERVAL == 0 or turn == len(order):
                memory_mb.append(_memory_mb(bench, server))
            # People come back one after the other.
            time.sleep(max(0.0, ends_s - time.monotonic()))
    wakes_ms.sort()
    memory_goal = Goal(Rule.AT_MOST, MEMORY_BOUND_MB)
    p95_ms = wakes_ms[int(0.95 * len(wakes_ms))]
    wakes = len(wakes_ms)
    measures = (
        Measure(
            "wake",
            "ms",
            middle(wakes_ms),
            goal=Goal(Rule.AT_MOST, WAKE_BOUND_MS),
            rounds=wakes,
            samples={"ours": wakes_ms},
        ),
        Measure(
            "wake",
            "ms",
            p95_ms,
            goal=Goal(Rule.AT_MOST, P95_BOUND_MS),
            statistic="p95",
            rounds=wakes,
        ),
        Measure("memory of all sandboxes", "MB", max(memory_mb), goal=memory_goal, statistic="max"),
    )
    return Outcome("many", f"{count} running agents", measures)


def _wake(server: Server, path: str) -> list[float]:
    """The milliseconds of a call that wakes an agent; none if it was in memory."""
    is_hibernated: Any = server.call("GET", f"/local{path}")["is_hibernated"]
    began_s = time.perf_counter()
    server.call("GET", f"/v1{path}/files")
    return [ms_since(began_s)] if is_hibernated else []


def _memory_mb(bench: Bench, server: Server) -> float:
    """The memory of all sandboxes of a server."""
    store_id = (server.data_dir / "store.id").read_text().strip()
    label = f"dev.chowder-local.store={store_id}"
    found = bench.client.containers.list(filters={"label": label}, ignore_removed=True)
    return sum(containers.memory_mb(each) for each in found)
