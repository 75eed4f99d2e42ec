"""The rows, in the order of the design's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import (
    creation,
    footprint,
    forking,
    freezing,
    passing,
    requests,
    startup,
    streams,
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
    "fork": Row("a fork with a warm sandbox; a warm create and a plain copy", forking.fork),
    "first-message": Row("an agent's first message; its later ones", turns.first_message),
    "stop-start": Row("stop and start; the engine's pause and unpause", freezing.stop_start),
    "message": Row("a message through us; straight to the gateway", turns.message),
    "passing": Row("an answer at once, through us; straight", passing.passing),
    "streams": Row("64 streams at once; straight from the gateway", streams.streams),
    "status": Row("GET …/status; an empty Starlette route", requests.status),
    "memory": Row("an agent's memory after its first turn; stock", footprint.agent_memory),
    "server-memory": Row("the server's memory, long answer; short one", footprint.server_memory),
    "up": Row("up → healthy; importing the dependencies", startup.up),
    "scale": Row("list and status with 10,000 rows; with 10", requests.scale),
}
