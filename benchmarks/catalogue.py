"""The rows, in the order of the design's table, and those of a quick run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import (
    channels,
    creation,
    crowds,
    footprint,
    forking,
    freezing,
    idling,
    passing,
    requests,
    reuse,
    stack,
    startup,
    streams,
    suites,
    turns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.bench import Bench
    from benchmarks.results import Outcome


@dataclass(frozen=True)
class Row:
    """A benchmark with a name."""

    summary: str
    measure: Callable[[Bench], Outcome]


ROWS: Mapping[str, Row] = {
    "create-warm": Row("create with a warm sandbox; the engine's unpause", creation.warm),
    "create-cold": Row("create without one; stock by docker run, fleet", creation.cold),
    "first-answer": Row("create → an agent's first answer; stock's", creation.first_answer),
    "fork": Row("a fork with a warm sandbox; a warm create and a plain copy", forking.fork),
    "forks": Row("forks in a row, with a message each; messages, creates", reuse.forks),
    "suite": Row("21 tests with the pytest plugin; their messages", suites.suite),
    "first-message": Row("an agent's first message; its later ones", turns.first_message),
    "processor-time": Row("an agent's processor time for a turn; stock's", turns.processor_time),
    "stop-start": Row("stop and start; the engine's pause and unpause", freezing.stop_start),
    "released": Row("start of a released agent; the same by a boot", idling.released),
    "wake": Row("a call that wakes a hibernated agent; the same by a boot", idling.wake),
    "silence": Row("a message after 2 and 10 minutes of silence; the next", idling.silence),
    "frozen": Row("the first message after 2 and 30 minutes frozen; the next", idling.frozen),
    "burst": Row("10 creates on 4 warm sandboxes; boots, two at a time", crowds.burst),
    "refill": Row("a message while a warm sandbox is made; while none is", crowds.refill),
    "many": Row("100 running agents, each used again in random order", crowds.many),
    "message": Row("a message through us; straight to the gateway", turns.message),
    "channels": Row("a person's message in each channel; one to the API", channels.channels),
    "passing": Row("an answer at once, through us; straight", passing.passing),
    "streams": Row("64 streams at once; straight from the gateway", streams.streams),
    "status": Row("GET …/status; an empty Starlette route", requests.status),
    "memory": Row("an agent's memory after its first turn; stock", footprint.agent_memory),
    "idle-density": Row("idle agents in a GiB; stock's", footprint.idle_density),
    "server-memory": Row("the server's memory, long answer; short one", footprint.server_memory),
    "up": Row("up → healthy; importing the dependencies", startup.up),
    "swarm": Row("an agent on three machines; on one (root on Linux)", stack.swarm),
    "scale": Row("list and status with 10,000 rows; with 10", requests.scale),
    "server-idle": Row("a server with 10,000 agents, idle; with 10", requests.server_idle),
}

QUICK: Mapping[str, int] = {
    "create-warm": 2,
    # Before any row that talks with the same agent.
    "fork": 1,
    "stop-start": 5,
    "message": 10,
    "passing": 30,
    "status": 2,
    "up": 2,
    # Last, so that no other row waits until their server has made the next warm sandbox.
    "wake": 1,
}
"""The rows that matter most in their order, each with the rounds that it gets in a quick run."""
